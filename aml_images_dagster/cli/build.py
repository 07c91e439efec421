"""`aml-images build`."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.artifacts import DamagedRecord
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.naming import release_tag_for
from aml_images_dagster.builds.plan import plan_build
from aml_images_dagster.builds.preflight import check_folders, check_plan, check_prerequisites
from aml_images_dagster.builds.release_number import next_release_num
from aml_images_dagster.builds.secrets import secrets_of
from aml_images_dagster.builds.selection import Selection, with_needed_parents
from aml_images_dagster.builds.source import open_source
from aml_images_dagster.catalog import git
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.discover import discover_images
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.release.release_plan import released_under

if TYPE_CHECKING:
    from collections.abc import Collection

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.settings import Settings


_ACTIONS = {"build": "[bold yellow]build[/]", "reuse": "[green]reuse[/]", "refuse": "[bold red]refuse[/]"}


@click.command("build")
@click.argument("images", nargs=-1, metavar="[IMAGE...]", type=IMAGE)
@click.option("--base", metavar="REV", help="Build what changed since this branch, tag or commit.")
@click.option("--head", metavar="REV", help="Build this commit. Default: the working tree.")
@click.option("--all", "everything", is_flag=True, help="Build all images that are not past their end of life.")
@click.option(
    "--release-num", type=int, metavar="N", help="N of the release tag YYYYMMDD.vN. Default: the next free one."
)
@click.option("--release-tag", metavar="T", help="Use this release tag instead of YYYYMMDD.vN.")
@click.option("--dry-run", is_flag=True, help="Show what would be built and why. Change nothing.")
@click.option("--force", is_flag=True, help="Build and test images again that already passed.")
@click.option("--keep-failed", is_flag=True, help="Keep images and containers of a failed build for keep_failed_hours.")
@common_options
def command(
    settings: Settings,
    as_json: bool,
    images: tuple[str, ...],
    base: str | None,
    head: str | None,
    everything: bool,
    release_num: int | None,
    release_tag: str | None,
    dry_run: bool,
    force: bool,
    keep_failed: bool,
) -> None:
    """Build, test and describe images, all or nothing.

    With IMAGE: these images, and those parents of them that are neither staged nor released. Without: the images that
    changed since --base (default: the main branch) and everything FROM them; all images if none changed.
    """
    now = datetime.now(UTC)
    release_tag_for(now, release_num, release_tag)  # contradictions are reported before anything is read
    if sum((bool(images), bool(base), everything)) > 1:
        raise BadInput("IMAGE, --base and --all cannot be combined", where="build", hint="Give one of them.")
    head = head or settings.source_commit  # as the code location, which has no --head, reads it
    commit = git.resolve(settings.repo, head) if head else ""
    source = open_source(settings, commit)
    # That of a clean working tree, too: the build goes by it, whatever happens to the files meanwhile.
    commit = source.tree.commit or ""
    backends = backends_for(settings)
    chosen = _choose(settings, source, images, base, head, everything)
    check_folders(source, chosen, backends)
    selection = with_needed_parents(chosen, source, backends, settings)
    check_folders(source, selection, backends)
    if release_num is None and not release_tag:
        release_num = _free_release_num(now, selection, backends)
    tag = release_tag_for(now, release_num, release_tag)
    plan = plan_build(selection, source, backends, settings, force=force)
    if dry_run:
        _print_plan(plan, tag, as_json)
    _hint_at_release_tag(tag, selection, backends)
    check_plan(plan)
    if dry_run:
        return
    check_prerequisites(plan, source, backends)
    for step in plan.images:
        if step.action == "build":
            secrets_of(source.catalog.get(step.image), settings)

    # Dagster takes seconds to import: only here, after everything that can be refused has been.
    from aml_images_dagster.cli.dagster_run import BuildCommand
    from aml_images_dagster.cli.run_build import run_build

    request = BuildCommand(plan, commit, source.url, release_num, release_tag, force, keep_failed)
    sys.exit(run_build(settings, backends, request, as_json))


def _free_release_num(now: datetime, images: Collection[str], backends: Backends) -> int:
    """The number that no build of the day has that may be released, as builds take it that start automatically."""
    try:
        return next_release_num(now.date(), images, backends.artifacts)
    except DamagedRecord as error:  # it is another build's, and must not stop this one
        console = open_console(stderr=True)
        console.print(f"[yellow]the release number is 1[/], as a record cannot be read: {escape(str(error))}")
        return 1


def _hint_at_release_tag(tag: str, images: Collection[str], backends: Backends) -> None:
    """Say beforehand that a release of this build would be refused, as long as another tag costs nothing."""
    earlier = released_under(tag, images, Ledger(backends.artifacts).records())
    if earlier is not None:
        open_console(stderr=True).print(
            f"[yellow]release tag {tag} is already used by build {earlier.build}[/]: an image that "
            "differs from that release needs another tag. Set --release-num or --release-tag.",
            soft_wrap=True,
        )


def _choose(
    settings: Settings,
    source: Source,
    images: tuple[str, ...],
    base: str | None,
    head: str | None,
    everything: bool,
) -> Selection:
    if images:
        return {source.catalog.get(image).id: ("named on the command line",) for image in images}
    if everything:
        return dict.fromkeys(source.catalog.select_default(), ("--all",))
    return {image.id: image.reasons for image in discover_images(settings, base, head).images}


def _print_plan(plan: Plan, release_tag: str, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "commit": plan.commit,
                "release_tag": release_tag,
                "images": [
                    {
                        "image": step.image,
                        "action": step.action,
                        "because": list(step.because),
                        "reasons": list(step.reasons),
                        "bases": step.pins,
                        "tests": step.tests,
                    }
                    for step in plan.images
                ],
            }
        )
        return
    table = new_table("image", "action", "because", "tests", "selected because")
    for step in plan.images:
        tests = "\n".join(f"{name}: {status}" for name, status in step.tests.items())
        table.add_row(
            escape(step.image),
            _ACTIONS[step.action],
            escape("\n".join(step.because)),
            escape(tests) or "[yellow]not tested[/]",
            escape("\n".join(step.reasons)),
        )
    console = open_console()
    console.print(table)
    count = Counter(step.action for step in plan.images)
    console.print(
        f"Dry run: {count['build']} to build, {count['reuse']} to reuse, {count['refuse']} refused, "
        f"release tag {release_tag}. Nothing was changed."
    )
