"""The recipe of an image: all inputs of its build, and the content key made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.builds.bases import FindParent, pin_bases
from aml_images_dagster.catalog.content_key import ContentKey
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.dockerfile import pin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import PinnedBase
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.catalog.image import Image


@dataclass(frozen=True, slots=True)
class Recipe:
    """All inputs of an image's build.

    Attributes:
        image: The image.
        dockerfile: The public and the private part, every base pinned.
        context: The files that the Dockerfile can copy.
        bases: What the image is built on.
        key: The content key.
    """

    image: Image
    dockerfile: str
    context: BuildContext
    bases: tuple[PinnedBase, ...]
    key: ContentKey


def write_recipe(image: Image, source: Source, backends: Backends, find_parent: FindParent) -> Recipe:
    """Pin the bases of an image and compute its content key.

    Raises:
        BadInput: A base can't be resolved.
    """
    return recipe_of(image, source, pin_bases(image, source.catalog, backends, find_parent))


def recipe_of(image: Image, source: Source, bases: Sequence[PinnedBase]) -> Recipe:
    """The recipe of an image whose bases are pinned."""
    context = BuildContext.of(source.tree, image)
    key = ContentKey.of(
        dockerfile=image.dockerfile.text,
        context=context,
        build_args=image.settings.build_args,
        platform=",".join(image.platforms),
        bases={base.reference: base.digest for base in bases},
        secrets=(*image.settings.secrets, *(["ssh"] if image.settings.ssh else [])),
        target=image.settings.target,
    )
    dockerfile = pin(image.dockerfile, {base.reference: base.pull for base in bases})
    return Recipe(image, dockerfile, context, tuple(bases), key)
