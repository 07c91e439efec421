"""A command `az` for the shell package of a drop: `acr import` between real registries of this machine, and no more.

AZ_REGISTRIES in its environment says which registry stands behind which name or resource id.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.registry.copy import CopyingImporter
from aml_images_dagster.registry.oci import OciRegistry


def install(folder: Path) -> Path:
    """Put the command into a folder for PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).resolve().parents[2]
    command = folder / "az"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m tests.emulators.az "$@"\n')
    command.chmod(0o755)
    return folder


def main() -> None:
    if sys.argv[1:2] == ["login"]:
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="+")
    for option in ("--name", "--registry", "--source", "--image", "--repository", "--query", "--output"):
        parser.add_argument(option)
    parser.add_argument("--force", action="store_true")
    asked = parser.parse_args()
    try:
        if asked.words == ["acr", "import"]:
            source = _reference(asked.registry, asked.source)
            target = _reference(asked.name, asked.image or asked.repository)
            importer = CopyingImporter(OciRegistry(source.registry), OciRegistry(target.registry))
            if asked.image:
                importer.import_image(source, target, replace=asked.force)
            else:
                importer.import_untagged(source, target.repository)
        elif asked.words == ["acr", "manifest", "show-metadata"] and asked.output == "json":
            reference = _reference(asked.registry, asked.name)
            registry = OciRegistry(reference.registry)
            digest = registry.digest(reference)
            if digest is None:
                sys.exit(f"ERROR: {asked.name} is not found.")
            tags = registry.tags(reference.repository) if asked.query == "tags" else ()
            ours = [
                tag
                for tag in tags
                if registry.digest(Reference(reference.registry, reference.repository, tag)) == digest
            ]
            print(json.dumps({"digest": digest, "tags": ours}[asked.query]))
        else:
            sys.exit(f"ERROR: {' '.join(asked.words)} is unknown here")
    except FactoryError as error:
        sys.exit(f"ERROR: {error}")


def _reference(registry: str, name: str) -> Reference:
    host = json.loads(os.environ["AZ_REGISTRIES"])[registry]
    return Reference.parse(f"{host}/{name}")


if __name__ == "__main__":
    main()
