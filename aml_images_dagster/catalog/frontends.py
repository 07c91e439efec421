"""Frontends of BuildKit: the images that `# syntax=` names and that read a Dockerfile.

Source: https://docs.docker.com/build/buildkit/frontend/ and https://hub.docker.com/r/docker/dockerfile.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_DOCKERFILES = re.compile(r"(docker\.io/)?docker/dockerfile(-upstream)?(:[^@]+)?(@.+)?")
_ANY_VERSION = re.compile(r"[^:@]+(:1|:latest)?")


def is_dockerfile_frontend(syntax: str) -> bool:
    """Whether it is BuildKit's own for Dockerfiles, which every builder has in some version."""
    return bool(_OF_DOCKERFILES.fullmatch(syntax))


def asks_for_more(syntax: str) -> bool:
    """Whether it asks for a certain version, or for instructions that are being tried out (labs)."""
    return not _ANY_VERSION.fullmatch(syntax)


def mirrored_frontend(syntax: str, frontends: Mapping[str, str]) -> str:
    """Where a frontend is to be fetched; empty when no mirror is named for it.

    Args:
        syntax: As the Dockerfile has it.
        frontends: Name without a tag → name at the mirror.
    """
    name = re.split(r"[:@]", syntax.removeprefix("docker.io/"), maxsplit=1)[0]
    mirror = frontends.get(name, "")
    return f"{mirror}{syntax.removeprefix('docker.io/')[len(name) :]}" if mirror else ""
