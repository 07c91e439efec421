"""`aml-images cleanup BUILD`."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from aml_images_dagster.build.cleanup import CleanupReport, cleanup
from aml_images_dagster.build.naming import BUILD_NUMBER
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.profiles import parts_for

if TYPE_CHECKING:
    from aml_images_dagster.build.artifacts import BuildFolder
    from aml_images_dagster.build.records import BuildStatus
    from aml_images_dagster.settings import Settings


@click.command("cleanup")
@click.argument("build")
@common_options
def command(settings: Settings, as_json: bool, build: str) -> None:
    """Take BUILD back: its staged images, its jobs and its release files. May be repeated at any time."""
    if not BUILD_NUMBER.fullmatch(build):
        raise BadInput(
            f"{build!r} is not a build number", mend="It looks like 20261123.4f2a9c1e; see `aml-images builds`."
        )
    parts = parts_for(settings)
    report = cleanup(build, parts, _status(parts.artifacts.build(build)))
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        open_console().print(report_table(report) if report.rows else f"Nothing is left of build {build}.")
    sys.exit(0 if report.clean else 1)


def _status(folder: BuildFolder) -> BuildStatus:
    """A build that had ended already stays what it was; any other is cancelled by the person."""
    with suppress(FactoryError, OSError):
        record = folder.read_build()
        if record is not None and record.status in ("failed", "expired"):
            return record.status
    return "canceled"


def report_table(report: CleanupReport) -> Table:
    """What a clean-up found and did, for people."""
    table = Table(box=None, header_style="bold")
    for heading in ("what", "name", "outcome", ""):
        table.add_column(heading, overflow="fold")
    for row in report.rows:
        table.add_row(row.kind, escape(row.name), row.outcome, escape(row.detail))
    return table
