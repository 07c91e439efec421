"""`aml-images cleanup BUILD`."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.artifacts import DamagedRecord
from aml_images_dagster.builds.housekeeping.cleanup import CleanupReport, cleanup
from aml_images_dagster.builds.housekeeping.repair import repair
from aml_images_dagster.builds.ledger import Ledger, is_claimed
from aml_images_dagster.builds.naming import BUILD_NUMBER
from aml_images_dagster.cli.arguments import BUILD, build_named
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.profiles import backends_for

if TYPE_CHECKING:
    from rich.table import Table

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import BuildRecord, EndStatus
    from aml_images_dagster.settings import Settings


@click.command("cleanup")
@click.argument("build", type=BUILD)
@click.option("--yes", is_flag=True, help="Do not ask before removing a build that succeeded.")
@click.option("--force", is_flag=True, help="Do not ask, and also remove a build that is released.")
@common_options
def command(settings: Settings, as_json: bool, build: str, yes: bool, force: bool) -> None:
    """Remove the staged images, jobs and release files of BUILD. Can be repeated at any time.

    Exit codes: 0 nothing is left, 1 something could not be removed, 2 bad usage or bad input.
    """
    build = build_named(settings, build)
    if not BUILD_NUMBER.fullmatch(build):
        raise BadInput(
            f"there is no build {build!r}",
            where=settings.artifacts_uri,
            hint="A build number looks like 20261123.4f2a9c1e; `aml-images builds` lists all.",
        )
    backends = backends_for(settings)
    record = _record(backends, build)
    if record is not None and record.status == "succeeded" and not force:
        _may_go(backends, record, yes=yes, ask=not as_json and sys.stdin.isatty())
    # A build that had failed or was canceled stays what it was; one that runs is canceled by the person.
    status: EndStatus = "removed" if record is not None and record.status == "succeeded" else "canceled"
    report = cleanup(build, backends, status, even_if_kept=True, even_if_released=force)
    if record is None and not report.rows and not backends.artifacts.build(build).root.exists():
        raise BadInput(
            f"there is no build {build!r}, and no staged image of one",
            where=settings.artifacts_uri,
            hint="`aml-images builds` lists all.",
        )
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        open_console().print(report_table(report) if report.rows else f"Nothing is left of build {build}.")
    is_kept = any(row.outcome == "kept" for row in report.rows)  # a release has begun meanwhile
    sys.exit(0 if report.clean and not is_kept else 1)


def _record(backends: Backends, build: str) -> BuildRecord | None:
    """What the build says of itself; None when it never began, or nothing can be read."""
    folder = backends.artifacts.build(build)
    with suppress(OSError, Unreachable):
        try:
            return folder.read_build()
        except DamagedRecord:
            return repair(folder, backends)
    return None


def _may_go(backends: Backends, record: BuildRecord, *, yes: bool, ask: bool) -> None:
    """Ask before a build that succeeded is removed.

    Raises:
        BadInput: It is released, or there is no terminal to ask on.
        click.Abort: The answer is no.
    """
    build = record.build
    what = f"build {build} of {record.created:%Y-%m-%d %H:%M} UTC, which has succeeded, with {', '.join(record.images)}"
    is_released = build in Ledger(backends.artifacts).released_builds()
    if is_released or is_claimed(backends.artifacts.build(build), datetime.now(UTC)):
        raise BadInput(
            f"this is {what}; it is released or being released",
            where=build,
            hint="`aml-images releases` lists all. `--force` removes its staged images and release files, "
            "and leaves production as it is.",
        )
    if yes:
        return
    if not ask:
        raise BadInput(f"this is {what}, and was not released", where=build, hint="Give --yes to remove it.")
    click.confirm(f"This is {what}, and was not released. Remove it?", abort=True)


def report_table(report: CleanupReport) -> Table:
    """What a cleanup found and did, for people."""
    table = new_table("name", "what", "outcome", "")
    for row in report.rows:
        table.add_row(escape(row.name), row.kind, row.outcome, escape(row.detail))
    return table
