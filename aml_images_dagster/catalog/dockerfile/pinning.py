"""Replacing the images that a Dockerfile uses, without touching anything else in its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.catalog.dockerfile.dockerfile import Dockerfile


def pin(dockerfile: Dockerfile, pins: Mapping[str, str]) -> str:
    """The text with the reference of every use replaced by `pins[use.reference]`.

    Uses without an entry stay as they are written, and so does every other character of the text. The name
    of a variable that held the reference is replaced, not the variable's default.
    """
    parts: list[str] = []
    done = 0
    for use in dockerfile.uses:
        pinned = pins.get(use.reference)
        if pinned is not None:
            parts += [dockerfile.text[done : use.start], pinned]
            done = use.end
    return "".join(parts) + dockerfile.text[done:]
