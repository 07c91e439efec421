"""The person or process that changes production, as named in release records."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


def actor(settings: Settings, named: str = "") -> str:
    """Who is named, else the setting, else user@host of this process."""
    return named.strip() or settings.release.who or f"{getpass.getuser()}@{socket.gethostname()}"
