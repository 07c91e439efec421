"""The digests of the images that a Dockerfile names in FROM and COPY --from."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from aml_images_dagster.builds.records import PinnedBase
from aml_images_dagster.catalog.builder_features import mirrored_frontend
from aml_images_dagster.catalog.dockerfile import SCRATCH
from aml_images_dagster.catalog.image_folder import LINUX
from aml_images_dagster.errors import BadInput
from aml_images_dagster.messages import lower_first
from aml_images_dagster.registry.resolution import ResolvedBase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.dockerfile import ImageUse
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.reference import Reference


class FindParent(Protocol):
    """Finds images of our own."""

    def __call__(self, image: str, release: str = "", /) -> Reference | None:
        """Where an image is: by digest, or by tag while the build has yet to make it; None when it is nowhere.

        Args:
            image: `<family>/<name>`.
            release: The reference that names one release of it; empty for what a build follows.
        """


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
        BadInput: A base can't be resolved, or is not for all platforms of the image; or an image of our own was neither
            built nor released.
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
            base = resolve_base(use.reference, catalog, backends, find_parent)
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
    if image.os == "linux" and image.platforms != (LINUX,):
        # BuildKit takes a base of another platform, and says of the image what it was asked to.
        for use in _for_every_platform(image):
            if use.reference not in known:
                _check_platforms(image, use, pinned[use.reference], backends)
    frontend = mirrored_frontend(image.dockerfile.syntax, backends.frontends)
    if frontend and frontend not in pinned:
        found_there = known.get(frontend) or backends.resolver.resolve(frontend)
        pinned[frontend] = PinnedBase(reference=frontend, digest=found_there.digest, pull=found_there.pull)
    return tuple(pinned.values())


def resolve_base(reference: str, catalog: Catalog, backends: Backends, find_parent: FindParent) -> ResolvedBase:
    """What a base points to that is no image to follow: one release of an image of our own, or an external base.

    A release that is neither in production nor in staging is looked for where its name leads, as any base.

    Raises:
        BadInput: It can't be resolved.
    """
    image = catalog.published.release(reference)
    found = find_parent(image, reference) if image else None
    if found:
        return ResolvedBase(reference, found.digest, str(found))
    try:
        return backends.resolver.resolve(reference)
    except BadInput as error:
        if image is None:
            doubt = catalog.published.doubt(reference, is_nowhere=True)
            if not doubt:
                raise
            raise BadInput(f"{doubt}; {lower_first(error.what)}", where=error.where, hint=error.hint) from None
        raise BadInput(
            f"neither production nor staging has this release of {image}, and {lower_first(error.what)}",
            where=reference,
            hint=f"`aml-images releases` shows what was released; without a tag, FROM follows {image}.",
        ) from None


def _for_every_platform(image: Image) -> Iterator[ImageUse]:
    """What is used of each platform that the image is built for; a stage may name one for itself (FROM --platform)."""
    dockerfile = image.dockerfile
    of_stages = iter([stage for stage in dockerfile.stages if stage.parent is None and stage.base != SCRATCH])
    for use in dockerfile.uses:
        stage = next(of_stages) if use.kind == "from" else None
        if stage is None or (not stage.platform and stage.index in dockerfile.needed_stages):
            yield use


def _check_platforms(image: Image, use: ImageUse, base: PinnedBase, backends: Backends) -> None:
    """Refuse a base that has not all platforms of an image; one that is yet to be built will have them."""
    if not base.digest:
        return
    has = backends.resolver.platforms(base.pull)
    lacking = [platform for platform in image.platforms if platform not in has]
    if has and lacking:
        raise BadInput(
            f"{use.reference} is not there for {' and '.join(lacking)}, only for {' and '.join(has)}",
            where=":".join(map(str, image.place(use.line))),
            hint=f"Select {base.image} as well: it was built for too few platforms before."
            if base.image
            else "Name a base that has all platforms, or fewer platforms in image.json.",
        )
