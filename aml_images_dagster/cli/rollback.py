"""`aml-images rollback IMAGE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aml_images_dagster.cli.changes import changes_document, changes_table
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.profiles import parts_for
from aml_images_dagster.release.actor import actor
from aml_images_dagster.release.rollback import plan_rollback, roll_back

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


@click.command("rollback")
@click.argument("image", metavar="FAMILY/IMAGE")
@click.option("--to", metavar="TAG", default="", help="Release tag to go back to. Default: the one before the latest.")
@click.option("--reason", default="", help="Why; recorded.")
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@common_options
def command(settings: Settings, as_json: bool, image: str, to: str, reason: str, dry_run: bool) -> None:
    """Let :latest of an image stand for an earlier release again. Allowed at any hour."""
    parts = parts_for(settings)
    console = open_console(stderr=as_json)
    if dry_run:
        version, change = plan_rollback(image, to, parts)
        if as_json:
            print_json({"image": image, "release_tag": version.tag, "changes": changes_document([change])})
        else:
            console.print(changes_table([change]))
            console.print(f"Dry run: :latest would be {version.tag}. Nothing was changed.")
        return

    def tell(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    record = roll_back(image, to, reason, parts, settings, actor(settings), tell)
    if as_json:
        print_json(record.model_dump(mode="json") if record else {"image": image, "changes": []})
    elif record is None:
        console.print(f":latest of {image} is that release already: nothing was changed.")
    else:
        console.print(changes_table(record.changes))
        console.print(f"\n[green]:latest of [bold]{image}[/] is {record.release_tag} again[/]")
