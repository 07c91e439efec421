"""`aml-images inventory IMAGE|REFERENCE`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.versions.image_lookup import find_image
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.console import Facts, new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.text import counted
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from aml_images_dagster.trust.sbom import sbom

if TYPE_CHECKING:
    from aml_images_dagster.builds.versions.image_lookup import FoundImage
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.trust.inventory import Inventory

_SHOWN = 20
"""How many files of no package the table names."""


@click.command("inventory")
@click.argument("image", metavar="IMAGE|REFERENCE", type=IMAGE)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "spdx", "cyclonedx", "json"]),
    default="table",
    show_default=True,
    help="Format of the output; spdx is SPDX 2.3, cyclonedx CycloneDX 1.6, both as JSON.",
)
@click.option("--platform", metavar="OS/ARCH", help="Only this platform of an image of several.")
@common_options
def command(settings: Settings, as_json: bool, image: str, form: str, platform: str | None) -> None:
    """Show what is in an image: packages with their licences, and files that no package knows.

    IMAGE is the newest one in staging, else the last one that was released. REFERENCE is any image in a registry, with
    the registry's host: docker.io/library/debian:12. Nothing of the image is run or pulled.
    """
    if as_json and form in ("spdx", "cyclonedx"):
        raise BadInput(f"--json and --format {form} cannot be combined", where="inventory", hint="Give one of them.")
    found = find_image(settings, backends_for(settings), image)
    images = found.platforms(platform)
    if len(images) > 1 and form in ("spdx", "cyclonedx"):
        raise BadInput(
            "an SBOM is of one platform",
            where=str(found.reference),
            hint=f"Choose one with --platform: {', '.join(images)}.",
        )
    records = LayerRecords(settings.layer_records)
    inventories = [read_inventory(found.registry, one, records, found.contents) for one in images.values()]
    name = found.name
    if as_json or form == "json":
        about = {"image": name, "reference": str(found.reference), "withdrawn": found.is_withdrawn}
        print_json(about | {"platforms": [each.document() for each in inventories]})
    elif form == "table":
        for inventory in inventories:
            _show(found, inventory)
    else:
        click.echo(sbom(inventories[0], name, "spdx" if form == "spdx" else "cyclonedx"), nl=False)


def _show(found: FoundImage, inventory: Inventory) -> None:
    console = open_console()
    table = new_table("package", "version", "type", "licence")
    for package in inventory.packages:
        table.add_row(
            escape(package.name),
            escape(package.version),
            package.type,
            escape(package.licence) or "[yellow]not found[/]",
        )
    console.print(table)
    console.print()
    kinds = Counter(package.type for package in inventory.packages)
    without = sum(not package.licence for package in inventory.packages)
    unowned = [
        f"/{each.path} ({counted(each.files, 'file')})" if each.path.endswith("/") else f"/{each.path}"
        for each in inventory.unowned[:_SHOWN]
    ]
    facts = {
        "image": found.titled,
        "reference": str(found.reference),
        "digest": inventory.digest,
        "platform": inventory.platform,
        "distribution": inventory.distribution.get("PRETTY_NAME", ""),
        "packages": ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none",
        "without licence": str(without) if without else "",
        "files": f"{inventory.files:,}" if inventory.files else "too many",
        "of no package": "\n".join((f"{inventory.unowned_files:,}", *unowned)) if inventory.unowned_files else "none",
        "not read": "\n".join(inventory.unread),
    }
    console.print(Facts((fact, escape(value)) for fact, value in facts.items() if value))
