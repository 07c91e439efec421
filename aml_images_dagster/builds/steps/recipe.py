"""The recipe of an image: all inputs of its build, the content key made from them, and why it is built.

The values of secrets are no part of it: they are in no key, record, log and layer.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.builds.steps.bases import FindParent, pin_bases
from aml_images_dagster.catalog.content_key import ContentKey, explain
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.dockerfile import pin
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import PinnedBase
    from aml_images_dagster.builds.session import BuildSession, Source
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings

_LONGEST = 100_000
"""Bytes. The builder's client gets values as variables, which Linux limits to 128 KiB each."""


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
        rewrite_timestamp=image.settings.rewrite_timestamp,
    )
    dockerfile = pin(image.dockerfile, {base.reference: base.pull for base in bases})
    return Recipe(image, dockerfile, context, tuple(bases), key)


def why_built(session: BuildSession, recipe: Recipe) -> tuple[str, ...]:
    """Why an image is built although its name may have passed before. Bases that are yet to be built count as new."""
    if session.force:
        return ("forced",)
    rebuilt = {base.reference: base.image for base in recipe.bases if not base.digest}
    because = tuple(f"its base {parent} is rebuilt" for parent in dict.fromkeys(rebuilt.values()))
    last = session.backends.artifacts.read_last_passed(recipe.image.id)
    if last is None:
        return ("no build of it has passed yet", *because)
    before = last.staged.content_key
    known = {**recipe.key.bases, **{reference: before.bases.get(reference, "") for reference in rebuilt}}
    dockerfile = posixpath.relpath(recipe.image.dockerfile_path, recipe.image.context or ".")
    because = (*explain(before, recipe.key.model_copy(update={"bases": known}), dockerfile), *because)
    return because or ("it passed before, but staging no longer holds it",)


def secrets_of(image: Image, settings: Settings) -> dict[str, str]:
    """The values of an image's secrets, by id.

    Raises:
        BadInput: A setting is missing, or the value that it names.
    """
    return {name: _value(name, image, settings) for name in image.settings.secrets}


def _value(secret: str, image: Image, settings: Settings) -> str:
    place = settings.build_secrets.get(secret)
    if place is None:
        raise BadInput(
            f"no setting says where the secret {secret} of {image.id} comes from",
            where="build_secrets",
            hint=f"Write {secret}=env:VARIABLE or {secret}=file:PATH there.",
        )
    kind, _, name = place.partition(":")
    hint = f"build_secrets takes the secret {secret} of {image.id} from there."
    if kind == "env":
        value = os.environ.get(name, "")
        if not value:
            raise BadInput("the variable is not set", where=name, hint=hint)
    else:
        try:
            value = (settings.repo / Path(name).expanduser()).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise BadInput(f"the file cannot be read: {reason}", where=name, hint=hint) from None
    if len(value.encode()) > _LONGEST or "\0" in value:
        raise BadInput("the value is no secret that a builder takes: it is too long, or binary", where=name, hint=hint)
    return value
