"""Who changes production, and the reason that they give; both are recorded and never changed."""

from __future__ import annotations

import getpass
import os
import socket
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


def actor(settings: Settings, named: str = "") -> str:
    """Who is named, else the setting, else user@host of this process."""
    return named.strip() or settings.release.who or f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    """The user of this process; one that has no name, as in many containers, by number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return f"uid-{os.getuid()}"


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
