"""The values of secrets that the RUN instructions of an image may read. They are in no key, record, log and layer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings

_LONGEST = 100_000
"""Bytes. The builder's client gets values as variables, which Linux limits to 128 KiB each."""


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
            f"no setting tells where the secret {secret} of {image.id} comes from",
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
