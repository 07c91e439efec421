"""`aml-images release BUILD`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict, Unpack

import click
from rich.markup import escape

from aml_images_dagster.builds.versions.image_difference import summary
from aml_images_dagster.cli.arguments import COMPLETE_BUILD, build_named
from aml_images_dagster.cli.changes import changes_document, changes_table, offer_dependents
from aml_images_dagster.cli.console import line_by_line, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.release.actor import actor, stated
from aml_images_dagster.release.candidate import completed
from aml_images_dagster.release.production import Releaser, window_closed
from aml_images_dagster.release.public_availability import await_promotion, problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.release.release_json import ReleaseJson
    from aml_images_dagster.release.release_plan import ReleasePlan
    from aml_images_dagster.settings import Settings


class How(TypedDict):
    """How a release is made.

    Attributes:
        outside_window: Why it does not wait for the release window; empty if it does.
        accept_major: Whether changes that may break users are released.
        wait: Whether to wait for the promotion.
    """

    outside_window: str
    accept_major: bool
    wait: bool


def release_options(verb: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of a command that releases: `dry_run`, and those of `How`.

    Args:
        verb: What the command does, for the help.
    """
    options = (
        click.option("--dry-run", is_flag=True, help="Show what would change, tag by tag. Change nothing."),
        click.option(
            "--outside-window", metavar="REASON", default="", help=f"{verb} outside of the release window; record why."
        ),
        click.option("--accept-major", is_flag=True, help=f"{verb} changes that may break users; record which."),
        click.option(
            "--wait/--no-wait", default=True, help="Wait until the public registry, if configured, serves the release."
        ),
    )

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return with_options


@click.command("release")
@click.argument("build", type=COMPLETE_BUILD)
@release_options("Release")
@common_options
def command(
    settings: Settings,
    as_json: bool,
    build: str,
    dry_run: bool,
    **how: Unpack[How],
) -> None:
    """Release BUILD: import its images into production by digest, then move :latest.

    A release that was interrupted continues when the command is run again. With --dry-run, BUILD may be `latest`.
    """
    how["outside_window"] = stated(how["outside_window"], "--outside-window")
    backends = backends_for(settings)
    release = completed(build_named(settings, build, latest=dry_run), backends.artifacts)
    if dry_run:
        show_plan(settings, backends, release, as_json)
    else:
        sys.exit(run_release(settings, backends, release, as_json, **how))


def show_plan(settings: Settings, backends: Backends, release: ReleaseJson, as_json: bool) -> None:
    """The dry run of a release."""
    plan = Releaser(backends, settings, actor(settings), lambda _: None).plan(release, scanned=True)
    closed = window_closed(settings, datetime.now(UTC))
    if as_json:
        about = {"build": release.build, "release_tag": release.release_tag, "lacks": plan.lacks, "must_wait": closed}
        differences = {image: found.document() for image, found in plan.differences.items()}
        about |= {"major": plan.major, "differences": differences, "not_compared": dict(plan.not_compared)}
        print_json(about | {"changes": changes_document(plan.changes)})
        return
    console = open_console()
    console.print(changes_table(plan.changes))
    _tell_what_is_lacking(console, plan)
    _tell_what_changes(console, plan, release.build)
    if closed:
        console.print(f"[yellow]A release must wait[/]: {escape(closed)}")
    moving = sum(change.before != change.after for change in plan.changes)
    resumes = " An interrupted release of it would continue." if plan.resumes else ""
    console.print(f"Dry run: {moving} of {len(plan.changes)} tags would change.{resumes} Nothing was changed.")


def run_release(
    settings: Settings,
    backends: Backends,
    release: ReleaseJson,
    as_json: bool,
    **how: Unpack[How],
) -> int:
    """Release, show it, and wait for the promotion.

    Returns:
        The exit code: 0, or 1 when the public registry serves something else.
    """
    console = open_console(stderr=as_json)
    report = line_by_line(console)
    releaser = Releaser(backends, settings, actor(settings), report)
    done = releaser.release(release, outside_window=how["outside_window"], accept_major=how["accept_major"])
    if not as_json:
        console.print(changes_table(done.plan.changes))
        _tell_what_is_lacking(console, done.plan)
        when = f"{done.record.when:%Y-%m-%d %H:%M} UTC"
        already = (
            f"was released already, by {escape(done.record.who)}, {when}" if done.plan.nothing_to_do else "is released"
        )
        console.print(f"\n[green]build [bold]{release.build}[/] {already}[/] as {release.release_tag}")
        if done.notes:
            console.print(f"Release notes: {done.notes}", markup=False, soft_wrap=True)
    following = offer_dependents(settings, backends, done.record, console)
    tags = await_promotion(done.record.changes, settings, report) if how["wait"] else []
    wrong, late = problems(tags, "wrong"), problems(tags, "late")
    if as_json:
        record = done.record.model_dump(mode="json")
        notes = str(done.notes) if done.notes else None
        promotion = {"late": late, "wrong": wrong}
        print_json(record | {"to_build_next": following, "promotion": promotion, "release_notes": notes})
    else:
        _tell_promotion(console, wrong, late, bool(tags))
    return 1 if wrong else 0


def _tell_what_is_lacking(console: Console, plan: ReleasePlan) -> None:
    for image, what in plan.lacks.items():
        console.print(f"[yellow]{escape(image)}[/]: {escape(what)}")


def _tell_what_changes(console: Console, plan: ReleasePlan, build: str) -> None:
    for image, found in plan.differences.items():
        console.print(f"{escape(image)}: {escape(summary(found))}")
    for each in plan.major:
        console.print(f"[bold yellow]may break users[/]: {escape(each)}")
    if plan.differences:
        console.print("Everything that changes for users of an image:")
        console.print(
            f"    aml-images diff {next(iter(plan.differences))} latest {build}", markup=False, soft_wrap=True
        )
    if plan.major:
        console.print("The release needs [bold]--accept-major[/].")


def _tell_promotion(console: Console, wrong: list[str], late: list[str], watched: bool) -> None:
    for line in late:
        console.print(f"[yellow]late[/]: {escape(line)}")
    for line in wrong:
        console.print(f"[bold red]wrong[/]: {escape(line)}")
    if watched and not wrong and not late:
        console.print("[green]The public registry serves it.[/]")
