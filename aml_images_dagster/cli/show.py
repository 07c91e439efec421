"""`aml-images show IMAGE`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.list_images import describe
from aml_images_dagster.cli.options import common_options, print_json

if TYPE_CHECKING:
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings


@click.command("show")
@click.argument("image")
@common_options
def command(settings: Settings, as_json: bool, image: str) -> None:
    """Show everything about IMAGE: bases, dependents, tests and Dockerfile."""
    tree = WorkingTree(settings.repo)
    catalog = load_catalog(settings, tree)
    found = catalog.get(image)
    folder = found.file("")
    files = sorted(path.removeprefix(folder) for path in tree.files() if path.startswith(folder))
    descendants = sorted(catalog.descendants([found.id]))
    dockerfile = found.dockerfile.text
    if as_json:
        print_json(
            describe(found)
            | {"files": files, "descendants": descendants, "dockerfile": dockerfile}
            | {"scenarios": [scenario.model_dump(mode="json") for scenario in found.scenarios]}
        )
        return
    facts = {
        "image": found.id,
        "description": found.settings.description,
        "folder": found.path,
        "files": ", ".join(files),
        "platform": found.platform,
        "built from": "\n".join((*found.parents, *found.bases)),
        "built from it": "\n".join(descendants) or "nothing",
        "published as": "\n".join(p.format(name=found.name, family=found.family) for p in settings.published_as),
        "owners": ", ".join(found.settings.owners),
        "end of life": _end_of_life(found),
        "tests": "\n".join(_scenario(s.model_dump(exclude_none=True)) for s in found.scenarios) or "not tested",
    }
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        if value:
            table.add_row(name, escape(value))
    console = open_console()
    console.print(table)
    console.print()
    console.print(Syntax(dockerfile, "dockerfile", background_color="default"))


def _end_of_life(image: Image) -> str:
    if image.is_past_end_of_life(datetime.now(UTC).date()):
        return f"{image.settings.eol}: built only if named"
    return str(image.settings.eol or "")


def _scenario(scenario: dict[str, object]) -> str:
    rest = ", ".join(f"{key} {value}" for key, value in scenario.items() if key != "name")
    return f"{scenario['name']}: {rest}"
