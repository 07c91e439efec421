"""Reasons that people give for a change of production; they are recorded and never changed."""

from __future__ import annotations

from aml_images_dagster.errors import BadInput


def stated(reason: str, where: str, *, required: bool = False) -> str:
    """A reason without the white space around it.

    Args:
        reason: What was given; empty for none.
        where: The option or field that holds it.
        required: Whether there has to be one.

    Raises:
        BadInput: It says nothing.
    """
    text = reason.strip()
    if not text and (reason or required):
        raise BadInput("a reason is needed, and this one is empty", where=where, hint="Say why in a few words.")
    return text
