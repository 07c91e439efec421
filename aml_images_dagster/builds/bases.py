"""What the FROM lines of an image stand for in a build: each name and the digest behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.catalog.catalogue import Catalogue
    from aml_images_dagster.catalog.image import Image


@dataclass(frozen=True, slots=True)
class PinnedBase:
    """A base with the digest that it stands for.

    Attributes:
        reference: As the Dockerfile names it.
        digest: What it stands for.
        pull: The pinned reference that takes its place in the Dockerfile that is built.
        image: For an image of our own `<family>/<name>`; else empty.
        warning: Something that a person should know about it; else empty.
    """

    reference: str
    digest: str
    pull: str
    image: str = ""
    warning: str = ""


FindParent = Callable[[str], Reference | None]
"""Where an image of our own is to be found, by digest; None when it is nowhere yet."""


def pin_bases(image: Image, catalogue: Catalogue, parts: Parts, find_parent: FindParent) -> tuple[PinnedBase, ...]:
    """Pin every image that a Dockerfile uses.

    Raises:
        BadInput: A base can't be resolved, or an image of our own was neither built nor released.
    """
    pinned: dict[str, PinnedBase] = {}
    for use in image.dockerfile.uses:
        if use.reference in pinned:
            continue
        parent = catalogue.published.resolve(use.reference)
        if parent is None:
            base = parts.resolver.resolve(use.reference)
            warning = f"{use.reference} was only found in the engine" if base.from_engine else ""
            pinned[use.reference] = PinnedBase(use.reference, base.digest, base.pull, warning=warning)
        else:
            found = find_parent(parent)
            if found is None:
                raise BadInput(
                    f"{parent} is neither part of the build nor released",
                    where=":".join(map(str, image.place(use.line))),
                    mend=f"Select {parent} as well, or release it first.",
                )
            pinned[use.reference] = PinnedBase(use.reference, found.digest, str(found), image=parent)
    return tuple(pinned.values())
