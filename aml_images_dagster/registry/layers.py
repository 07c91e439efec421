"""The files of an image in a registry, without pulling it.

Source of the layers' form, with the names of removed files: https://github.com/opencontainers/image-spec/blob/main/layer.md.
Layers of Windows images keep the files of `C:` below `Files/`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput
from aml_images_dagster.http_connection import time_limit
from aml_images_dagster.registry.layer_archive import UnreadableLayer, open_layer
from aml_images_dagster.registry.oci import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Registry

_LAYER_SECONDS = 3600
_WINDOWS_DRIVE, _WINDOWS_FILES = "C:/", "Files/"
_REMOVED, _ALL_REMOVED = ".wh.", ".wh..wh..opq"


def files_in(registry: Registry, reference: Reference, paths: Iterable[str]) -> dict[str, bool]:
    """Which of the absolute paths an image of one platform has.

    Layers are read newest first, only until every path is decided: what an image adds at its end costs little. A layer
    in a compression that Python cannot read counts as one without files.

    Raises:
        BadInput: There is no such image.
        Unreachable: The registry does not answer, or serves something else than it promised.
    """
    manifest = registry.manifest(reference)
    if manifest is None:
        raise BadInput("the registry has no such image", where=str(reference), hint="Is the name right?")
    names = {path: _name_in_layers(path) for path in paths}
    decided: dict[str, bool] = {}
    for layer in reversed(read_manifest(manifest).get("layers", ())):
        looked_for = {path: name for path, name in names.items() if path not in decided}
        if looked_for and not layer.get("urls"):  # a Windows base is in the registry of Microsoft alone
            with time_limit(_LAYER_SECONDS):
                decided |= _decide(_entries(registry, reference.repository, layer["digest"]), looked_for)
    return {path: decided.get(path, False) for path in names}


def _decide(entries: Iterable[str], looked_for: dict[str, str]) -> dict[str, bool]:
    """What one layer says: there, removed, or nothing."""
    decided = {}
    removes = {path: set(_removers(name)) for path, name in looked_for.items()}
    for entry in entries:
        for path, name in looked_for.items():
            if entry == name:
                decided[path] = True
            elif entry in removes[path]:
                decided.setdefault(path, False)
    return decided


def _removers(name: str) -> Iterator[str]:
    """The entries by which a layer removes a file of the layers below it, or a folder around it."""
    parts = name.split("/")
    for depth in range(len(parts)):
        folder = "".join(f"{part}/" for part in parts[:depth])
        yield f"{folder}{_REMOVED}{parts[depth]}"
        yield f"{folder}{_ALL_REMOVED}"


def _name_in_layers(path: str) -> str:
    return path.replace("\\", "/").replace(_WINDOWS_DRIVE, _WINDOWS_FILES).removeprefix("/")


def _entries(registry: Registry, repository: str, digest: str) -> Iterator[str]:
    with suppress(UnreadableLayer), open_layer(registry, repository, digest) as layer:
        for entry in layer:
            yield entry.name.removeprefix("./").rstrip("/")
