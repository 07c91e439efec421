"""The digests of the images that a Dockerfile names in FROM and COPY --from."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING

from aml_images_dagster.builds.records import PinnedBase
from aml_images_dagster.catalog.frontends import mirrored_frontend
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image


FindParent = Callable[[str], Reference | None]
"""Where an image of our own is: by digest, or by tag while the build has yet to make it; None when it is nowhere."""


def pin_bases(
    image: Image,
    catalog: Catalog,
    backends: Backends,
    find_parent: FindParent,
    known: Mapping[str, PinnedBase] = MappingProxyType({}),
) -> tuple[PinnedBase, ...]:
    """Pin every image that a Dockerfile uses, and the frontend that reads it if a mirror of it is named.

    Args:
        image: The image.
        catalog: The images that are not external.
        backends: The resolver of all others.
        find_parent: Where images of our own are.
        known: Bases by reference that need not be resolved, because a plan has pinned them.

    Raises:
        BadInput: A base can't be resolved, or an image of our own was neither built nor released.
    """
    pinned: dict[str, PinnedBase] = {}
    for use in image.dockerfile.uses:
        if use.reference in pinned:
            continue
        if use.reference in known:
            pinned[use.reference] = known[use.reference]
            continue
        parent = catalog.published.resolve(use.reference)
        if parent is None:
            base = backends.resolver.resolve(use.reference)
            warning = f"{use.reference} was only found in the engine" if base.from_engine else ""
            pinned[use.reference] = PinnedBase(
                reference=use.reference, digest=base.digest, pull=base.pull, warning=warning
            )
        else:
            found = find_parent(parent)
            if found is None:
                raise BadInput(
                    f"{parent} is neither part of the build nor released",
                    where=":".join(map(str, image.place(use.line))),
                    hint=f"Select {parent} as well, or release it first.",
                )
            pinned[use.reference] = PinnedBase(
                reference=use.reference, digest=found.digest, pull=str(found), image=parent
            )
    frontend = mirrored_frontend(image.dockerfile.syntax, backends.frontends)
    if frontend and frontend not in pinned:
        found_there = known.get(frontend) or backends.resolver.resolve(frontend)
        pinned[frontend] = PinnedBase(reference=frontend, digest=found_there.digest, pull=found_there.pull)
    return tuple(pinned.values())
