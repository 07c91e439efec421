"""`aml-images list`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings


@click.command("list")
@common_options
def command(settings: Settings, as_json: bool) -> None:
    """Show all images."""
    tree = WorkingTree(settings.repo)
    catalog = load_catalog(settings, tree)
    images = catalog.every_image()
    if as_json:
        print_json([describe(image) for image in images])
        return
    today = datetime.now(UTC).date()
    notes = [
        f"[dim]end of life {image.settings.eol}[/]" if image.is_past_end_of_life(today) else _faults(image)
        for image in images
    ]
    table = new_table("image", "platform", "built from", "tests", *(["state"] if any(notes) else []))
    for image, note in zip(images, notes, strict=True):
        table.add_row(
            escape(image.id),
            ", ".join(image.platforms),
            escape(", ".join((*image.parents, *image.bases))),
            escape(", ".join(scenario.name for scenario in image.scenarios)) or "[yellow]not tested[/]",
            *([note] if any(notes) else []),
        )
    console = open_console()
    if images:
        console.print(table)
    else:
        console.print(str(catalog.layout.nothing_found(tree.files(), tree.root)), markup=False)


def describe(image: Image) -> dict[str, Any]:
    """An image for programs."""
    return {
        "name": image.name,
        "family": image.family,
        "path": image.path,
        "dockerfile": image.dockerfile_path,
        "context": image.context,
        "variant": image.variant,
        "description": image.settings.description,
        "platform": image.platform,
        "platforms": list(image.platforms),
        "parents": list(image.parents),
        "bases": list(image.bases),
        "tests": [scenario.name for scenario in image.scenarios],
        "eol": image.settings.eol,
        "problems": len(image.problems),
    }


def _faults(image: Image) -> str:
    errors = sum(problem.severity == "error" for problem in image.problems)
    return f"[red]{counted(errors, 'error')}: aml-images validate {escape(image.id)}[/]" if errors else ""
