"""`aml-images verify IMAGE|REFERENCE`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from aml_images_dagster.builds.versions.image_lookup import find_image, is_reference, registry_at
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.trust.keys import TEST_KEY_WARNING
from aml_images_dagster.trust.signing import trust_of
from aml_images_dagster.trust.verification import verify_image

if TYPE_CHECKING:
    from rich.table import Table

    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.trust.verification import Verification


@click.command("verify")
@click.argument("image", metavar="IMAGE|REFERENCE", type=IMAGE)
@common_options
def command(settings: Settings, as_json: bool, image: str) -> None:
    """Verify an image: its signature, its provenance, and that it has a signed SBOM.

    IMAGE is the newest one in staging, else the last one that was released. REFERENCE is any image in a registry, with
    the registry's host, as a release prints it.

    Whose signatures count, and what an image must have, are settings (trust.roots, trust.identities, trust.required).

    Exit codes: 0 verified, 1 refused, 2 there is no such image or it cannot be asked for.
    """
    registry, reference = _find(settings, image)
    trust = trust_of(settings)
    found = verify_image(registry, reference, trust, settings.trust.required, datetime.now(UTC))
    by_test_key = trust.is_test and bool(found.signatures)
    if as_json:
        print_json(_document(found) | {"test_key": by_test_key})
    else:
        console = open_console()
        console.print(escape(str(found.image)))
        console.print(_table(found))
        if by_test_key:
            console.print(f"[yellow]{TEST_KEY_WARNING.capitalize()}[/]: trust.roots names no root.")
        console.print("Verified." if found.ok else "[bold red]Refused.[/]")
    sys.exit(0 if found.ok else 1)


def _find(settings: Settings, text: str) -> tuple[Registry, Reference]:
    """An image of the repository, or exactly what a reference says: a mirror has no evidence."""
    backends = backends_for(settings)
    if is_reference(text):
        reference = Reference.parse(text)
        return registry_at(reference.registry, settings, backends), reference
    if {":", "@"} & {*text}:
        raise BadInput(
            f"{text!r} does not begin with a registry",
            where="REFERENCE",
            hint=f"Write registry, name, and tag or digest: {settings.production_registry}/{text}.",
        )
    found = find_image(settings, backends, text)
    return found.registry, found.reference


def _table(found: Verification) -> Table:
    table = new_table("        evidence", "found")
    for check in found.checks:
        mark = "[green]ok[/]    " if check.ok else "[bold red]failed[/]" if check.required else "none  "
        table.add_row(f"{mark}  {escape(check.name)}", escape(check.found))
    return table


def _document(found: Verification) -> dict[str, Any]:
    return {
        "image": str(found.image),
        "digest": found.image.digest,
        "verified": found.ok,
        "evidence": [
            {
                "name": check.name,
                "ok": check.ok,
                "required": check.required,
                "found": check.found,
                "artifacts": list(check.artifacts),
            }
            for check in found.checks
        ],
        "signed_by": [signed.by for signed in found.signatures],
    }
