"""`aml-images discover`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.source import discover_images, load_catalog, source_tree
from aml_images_dagster.catalog.discovery import nothing_to_build
from aml_images_dagster.cli.arguments import STATED
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


@click.command("discover")
@click.option(
    "--base", type=STATED, metavar="REV", help="Compare with this branch, tag or commit. Default: the main branch."
)
@click.option(
    "--head",
    type=STATED,
    metavar="REV",
    help="Compare this commit. Default: the setting source_commit, else the working tree.",
)
@click.option("--no-fallback", is_flag=True, help="Select no image instead of all images when no image changed.")
@common_options
def command(settings: Settings, as_json: bool, base: str | None, head: str | None, no_fallback: bool) -> None:
    """Show which images the changes since --base rebuild, and why.

    Compares as a pull request does: with the merge base of --base and --head.
    """
    found = discover_images(settings, base or "", head or "", fallback=not no_fallback)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    table = new_table("image", "change", "why")
    for image in found.images:
        table.add_row(escape(image.id), image.change, escape("\n".join(image.reasons)))
    for removed in found.removed:
        table.add_row(escape(f"{removed.family}/{removed.name}"), "removed", "the folder is gone: nothing to build")
    for name in found.end_of_life:
        table.add_row(escape(name), "end of life", "changed, but built only if named")
    console = open_console()
    console.print(table if table.rows else f"{nothing_to_build(found.merge_base)}.")
    if not table.rows:
        tree = source_tree(settings, head or "")
        catalog = load_catalog(settings, tree)
        if not catalog.images:
            console.print(str(catalog.layout.nothing_found(tree.files(), tree.root)), markup=False)
    console.print(f"[dim]since {found.merge_base[:12]}, at {(found.head or 'the working tree')[:16]}[/]")
