"""`aml-images builds`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.profiles import backends_for

if TYPE_CHECKING:
    from aml_images_dagster.builds.records import BuildStatus
    from aml_images_dagster.settings import Settings

COLOURS: dict[BuildStatus, str] = {
    "succeeded": "green",
    "failed": "red",
    "canceled": "yellow",
    "running": "cyan",
    "partial": "dim",
    "expired": "dim",
}


@click.command("builds")
@common_options
def command(settings: Settings, as_json: bool) -> None:
    """Show all builds, newest first."""
    found = backends_for(settings).artifacts.builds(lambda error: click.echo(f"aml-images: {error}", err=True))
    if as_json:
        print_json(
            [
                {
                    "build": record.build,
                    "status": record.status,
                    "commit": record.commit,
                    "trigger": record.trigger,
                    "pull_request": record.pull_request,
                    "created": record.created.isoformat(),
                    "artifacts": folder.root.as_uri(),
                    "images": list(record.images),
                }
                for folder, record in found
            ]
        )
        return
    table = new_table("build", "status", "created", "started by", "commit", "release tag", "images")
    table.columns[1].no_wrap = True  # one word
    for _, record in found:
        table.add_row(
            record.build,
            f"[{COLOURS[record.status]}]{record.status}[/]",
            f"{record.created:%Y-%m-%d %H:%M:%S}",
            escape(record.started_by) or "-",
            record.commit[:12] + ("-dirty" if record.commit.endswith("-dirty") else ""),
            record.release_tag,
            escape("\n".join(record.images)),
        )
    console = open_console()
    if not found:
        console.print(f"No builds in {escape(settings.artifacts_uri)} yet.")
        return
    console.print(table)
    console.print(f"Artifacts: {escape(settings.artifacts_uri)}/BUILD", soft_wrap=True)
