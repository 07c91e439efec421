"""`aml-images graph`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.tree import Tree as Branches

from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.settings import Settings


@click.command("graph")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "json"]),
    default="text",
    show_default=True,
    help="Format of the output.",
)
@common_options
def command(settings: Settings, as_json: bool, form: str) -> None:
    """Show what is built FROM what: the direct edges of FROM and COPY --from."""
    tree = WorkingTree(settings.repo)
    catalog = load_catalog(settings, tree)
    catalog.order(catalog.images)  # a cycle is an error here, not a picture
    if as_json or form == "json":
        print_json({"images": [_node(catalog, image) for image in catalog.images]})
    elif form == "mermaid":
        click.echo(printable(mermaid(catalog)))
    else:
        console = open_console(unbroken=True)
        for branches in _text(catalog):
            console.print(branches)
        if not catalog.images:
            console.print(str(catalog.layout.nothing_found(tree.files(), tree.root)), markup=False)


def _node(catalog: Catalog, name: str) -> dict[str, object]:
    image = catalog.images[name]
    return {
        "name": image.name,
        "family": image.family,
        "path": image.path,
        "parents": list(image.parents),
        "bases": list(image.bases),
    }


def mermaid(catalog: Catalog) -> str:
    """The graph as a Mermaid flowchart, bases on the left.

    Source: https://mermaid.js.org/syntax/flowchart.html
    """
    images = catalog.images.values()
    bases = sorted({base for image in images for base in image.bases})
    names = {name: f"n{index}" for index, name in enumerate([*bases, *catalog.images])}
    lines = ["flowchart LR"]
    lines += [f'    {names[base]}(["{base}"])' for base in bases]
    lines += [f'    {names[image.id]}["{image.id}"]' for image in images]
    lines += [f"    {names[up]} --> {names[image.id]}" for image in images for up in (*image.bases, *image.parents)]
    return "\n".join(lines)


def _text(catalog: Catalog) -> list[Branches]:
    """Every external base with all images built on it; an image with several parents appears below each."""
    children: dict[str, list[str]] = {}
    for image in catalog.images.values():
        for parent in (*image.bases, *image.parents):
            children.setdefault(parent, []).append(image.id)
    roots = sorted({base for image in catalog.images.values() for base in image.bases})
    roots += [image.id for image in catalog.images.values() if not image.bases and not image.parents]

    def grow(branches: Branches, name: str) -> Branches:
        for child in children.get(name, ()):
            grow(branches.add(f"[bold]{escape(child)}[/]"), child)
        return branches

    return [grow(Branches(f"[dim]{escape(root)}[/]"), root) for root in roots]
