"""`aml-images withdraw IMAGE TAG`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aml_images_dagster.cli.changes import changes_document, changes_table
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.profiles import parts_for
from aml_images_dagster.release.actor import actor
from aml_images_dagster.release.withdrawal import plan_withdrawal, withdraw

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


@click.command("withdraw")
@click.argument("image", metavar="FAMILY/IMAGE")
@click.argument("tag")
@click.option("--reason", required=True, help="Why; recorded.")
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@common_options
def command(settings: Settings, as_json: bool, image: str, tag: str, reason: str, dry_run: bool) -> None:
    """Remove release TAG of an image from production, for good. :latest may not stand for it."""
    parts = parts_for(settings)
    console = open_console(stderr=as_json)
    if dry_run:
        _, change = plan_withdrawal(image, tag, parts)
        if as_json:
            print_json({"image": image, "release_tag": tag, "changes": changes_document([change])})
        else:
            console.print(changes_table([change]))
            console.print("Dry run. Nothing was changed.")
        return

    def tell(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    record = withdraw(image, tag, reason, parts, settings, actor(settings), tell)
    if as_json:
        print_json(record.model_dump(mode="json") if record else {"image": image, "changes": []})
    elif record is None:
        console.print(f"{image} {tag} is withdrawn already: nothing was changed.")
    else:
        console.print(changes_table(record.changes))
        console.print(f"\n[bold]{image}[/] {tag} is withdrawn; its digest stays for those who have pinned it.")
