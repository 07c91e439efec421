"""`aml-images build`."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.planning.preflight import NOT_POSSIBLE, check_plan, check_prerequisites
from aml_images_dagster.builds.planning.preparation import NothingChanged, Wanted, prepare
from aml_images_dagster.builds.records import why_unreleasable
from aml_images_dagster.cli.arguments import IMAGE, STATED
from aml_images_dagster.cli.console import left_out_in_words, new_table, open_console, rows_worth_showing
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.release.release_plan import hint_at_release_tag, hint_at_withdrawn
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.settings import Settings


_ACTIONS = {"build": "[bold yellow]build[/]", "reuse": "[green]reuse[/]", "refuse": "[bold red]refuse[/]"}


@click.command("build")
@click.argument("images", nargs=-1, metavar="[IMAGE...]", type=IMAGE)
@click.option("--base", type=STATED, metavar="REV", help="Build what changed since this branch, tag or commit.")
@click.option(
    "--head",
    type=STATED,
    metavar="REV",
    help="Build this commit. Default: the setting source_commit, else the working tree.",
)
@click.option("--all", "everything", is_flag=True, help="Build all images that are not past their end of life.")
@click.option(
    "--no-fallback", is_flag=True, help="Build no image instead of all images when no image changed; exit code 0."
)
@click.option(
    "--release-num", type=int, metavar="N", help="N of the release tag YYYYMMDD.vN. Default: the next free one."
)
@click.option("--release-tag", type=STATED, metavar="TAG", help="Use this release tag instead of YYYYMMDD.vN.")
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
    no_fallback: bool,
    release_num: int | None,
    release_tag: str | None,
    dry_run: bool,
    force: bool,
    keep_failed: bool,
) -> None:
    """Build, test and describe images, all or nothing.

    With IMAGE: these images, and those parents of them that are neither staged nor released. Without: the images that
    changed since --base (default: the main branch) and everything FROM them; all images if none changed, unless
    --no-fallback is given.
    """
    wanted = Wanted(
        asked="on the command line",
        images=images,
        base=base or "",
        head=head or "",
        everything=everything,
        release_num=release_num,
        release_tag=release_tag or "",
        force=force,
        fallback=not no_fallback,
    )
    backends = backends_for(settings)
    try:
        prepared = prepare(wanted, settings, backends, _warn)
    except NothingChanged as nothing:
        if as_json:
            print_json({"build": None, "status": "nothing to build", "images": []})
        else:
            open_console().print(f"{nothing.what}.", markup=False)
        return
    plan = prepared.plan
    if unreleasable := why_unreleasable(plan.commit):
        _warn(unreleasable)
    if dry_run:
        _print_plan(plan, prepared.release_tag, as_json)
    records = Ledger(backends.artifacts).records()
    tag, withdrawn = prepared.release_tag, hint_at_withdrawn(plan.reused_digests, records)
    for hint in filter(None, (hint_at_release_tag(tag, plan.by_name, records), withdrawn)):
        _warn(hint)
    if dry_run:
        _check_shown(plan)
        return
    check_plan(plan)
    check_prerequisites(plan, prepared.source, backends)

    # Dagster takes seconds to import: only here, after everything that can be refused has been.
    from aml_images_dagster.cli.dagster_run import BuildCommand
    from aml_images_dagster.cli.instance import explained_outage
    from aml_images_dagster.cli.run_build import run_build

    # That of a clean working tree, too: the build goes by it, whatever happens to the files meanwhile.
    commit, number = prepared.source.tree.commit or "", prepared.release_num
    request = BuildCommand(plan, commit, prepared.source.url, number, release_tag, force, keep_failed)
    with explained_outage():
        code = run_build(settings, backends, request, as_json)
    sys.exit(code)


def _check_shown(plan: Plan) -> None:
    """Refuse a plan that was printed with what stands in the way.

    Raises:
        BadInput: An image cannot be built.
    """
    refused = sum(step.action == "refuse" for step in plan.images)
    if refused:
        raise BadInput(
            f"this build is not possible: {refused} of {counted(len(plan.images), 'image')} cannot be built, see above",
            hint=NOT_POSSIBLE,
        )


def _warn(text: str) -> None:
    open_console(stderr=True).print(text, style="yellow", markup=False, soft_wrap=True)


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
    steps, left_out = rows_worth_showing(plan.images, lambda step: step.is_unchanged)
    for step in steps:
        tests = "\n".join(f"{name}: {status}" for name, status in step.tests.items())
        table.add_row(
            escape(step.image),
            _ACTIONS[step.action],
            escape("\n".join(step.because)),
            escape(tests) or "[yellow]not tested[/]",
            escape("\n".join(step.reasons)),
        )
    console = open_console()
    if steps:
        console.print(table)
    if left_out:
        untested = sum(not step.tests for step in left_out)
        more = left_out_in_words(len(left_out), untested, len(steps))
        console.print(f"{more} to reuse as they are: `--json` lists all")
    count = Counter(step.action for step in plan.images)
    console.print(
        f"Dry run: {count['build']} to build, {count['reuse']} to reuse, {count['refuse']} refused, "
        f"release tag {release_tag}. Nothing was changed."
    )
