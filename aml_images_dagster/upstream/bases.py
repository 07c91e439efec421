"""External bases: images that are not in the catalog and that its images are built on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aml_images_dagster.catalog.image import Image


def base_name(reference: str) -> str:
    """A base by its full name, however a Dockerfile writes it: `ubuntu` is `docker.io/library/ubuntu:latest`."""
    base = Reference.parse(reference)
    return str(base if base.tag or base.digest else replace(base, tag="latest"))


def is_fixed(base: str) -> bool:
    """Whether a base is named by its digest, and can't change."""
    return bool(Reference.parse(base).digest)


def external_bases(images: Iterable[Image]) -> Mapping[str, tuple[str, ...]]:
    """Every external base by its full name, with the images whose Dockerfile names it.

    Releases of the catalog's own images are none.
    """
    named_by: dict[str, list[str]] = defaultdict(list)
    for image in images:
        external = (base for base in image.bases if base not in image.releases)
        for base in dict.fromkeys(map(base_name, external)):
            named_by[base].append(image.id)
    return {base: tuple(named_by[base]) for base in sorted(named_by)}
