"""What the UI says about an image's assets: kinds, owners, links to its code."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.catalog.image import Image


def kinds(image: Image) -> set[str]:
    """Kinds shown as icons; Dagster allows three."""
    return {"docker", image.os}


def owners(image: Image) -> list[str]:
    """Owners as image.json names them."""
    return list(image.settings.owners)


def code_references(image: Image, source: Source) -> dict[str, Any]:
    """A link to the image's Dockerfile: on the web for a commit of a hosted repository, else on this disk."""
    path = image.file("Dockerfile")
    reference: dg.UrlCodeReference | dg.LocalFileCodeReference
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        if source.url.startswith("https://") and not source.commit.endswith("-dirty"):
            reference = dg.UrlCodeReference(
                url=f"{source.url.removesuffix('.git')}/blob/{source.commit}/{path}", label=path
            )
        else:
            reference = dg.LocalFileCodeReference(file_path=str(source.tree.root / path), label=path)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}
