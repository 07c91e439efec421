"""`aml-images inventory IMAGE|REFERENCE`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.reference import DOCKER_HUB, Reference
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.console import Facts, new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.text import counted
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from aml_images_dagster.trust.sbom import sbom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.image_file import Content
    from aml_images_dagster.registry.interface import Registry
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
    backends = backends_for(settings)
    registry, reference, name, contents = _found(settings, backends, image)
    images = images_of(registry, reference)
    if platform is not None:
        images = {
            found: one for found, one in images.items() if found == platform or f"{found}/".startswith(f"{platform}/")
        }
    if not images or (len(images) > 1 and form in ("spdx", "cyclonedx")):
        having = ", ".join(images or images_of(registry, reference))
        raise BadInput(
            "an SBOM is of one platform" if images else f"the image has no platform {platform}",
            where=str(reference),
            hint=f"Choose one with --platform: {having}.",
        )
    records = LayerRecords(settings.layer_records)
    inventories = [read_inventory(registry, one, records, contents) for one in images.values()]
    if as_json or form == "json":
        print_json({"image": name, "reference": str(reference), "platforms": [each.document() for each in inventories]})
    elif form == "table":
        for inventory in inventories:
            _show(name, reference, inventory)
    else:
        click.echo(sbom(inventories[0], name, "spdx" if form == "spdx" else "cyclonedx"), nl=False)


def _found(settings: Settings, backends: Backends, text: str) -> tuple[Registry, Reference, str, Sequence[Content]]:
    """Where an image is, its name, and what its folder declares to be in it."""
    image = _of_repository(settings, text)
    if image is not None:
        return (*_newest(backends, image.id), image.id, image.settings.contains)
    reference = Reference.parse(text)
    for registry in (backends.staging, backends.production):
        if registry.host == reference.registry:
            return registry, reference, reference.repository, ()
    base = backends.resolver.resolve(text)
    place = Reference.parse(base.pull)
    if base.from_engine:
        raise BadInput(
            "only the engine has this image, and its layers are read from a registry",
            where=text,
            hint="Push it to a registry, or name a mirror that has it (base_mirrors).",
        )
    host = place.registry
    own = next((each for each in (backends.staging, backends.production) if each.host == host), None)
    elsewhere = OciRegistry(
        host, backends.login_for(host), trusted=settings.trusts(host), setting=settings.naming(host)
    )
    return own or elsewhere, place, reference.repository, ()


def _of_repository(settings: Settings, text: str) -> Image | None:
    """The image of the repository that a text names; None for a reference, which needs no repository."""
    try:
        catalog = load_catalog(settings, WorkingTree(settings.repo))
    except BadInput:
        if _is_reference(text):
            return None
        raise
    return None if _is_reference(text) and text not in catalog.images else catalog.get(text)


def _is_reference(text: str) -> bool:
    """Whether a text begins with the host of a registry; without one it is the name of an image of the repository."""
    host, slash, _ = text.partition("/")
    return bool(slash) and (host in ("localhost", DOCKER_HUB) or bool(set(".:") & set(host)))


def _newest(backends: Backends, image: str) -> tuple[Registry, Reference]:
    for folder, record in backends.artifacts.builds(lambda _: None):
        staged = folder.read_staged(image) if image in record.images else None
        if staged is not None:
            reference = Reference.parse(staged.reference).with_digest(staged.digest)
            if backends.staging.digest(reference) is not None:  # a build that was cleaned up has none any more
                return backends.staging, reference
    for release in reversed(Ledger(backends.artifacts).records()):
        change = release.change(image, LATEST) if release.done else None
        if change is not None and change.after is not None:
            return backends.production, Reference(backends.production.host, change.repository, digest=change.after)
    raise BadInput(
        "the image is neither in staging nor released", where=image, hint=f"`aml-images build {image}` builds it."
    )


def _show(name: str, reference: Reference, inventory: Inventory) -> None:
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
        "image": name,
        "reference": str(reference),
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
