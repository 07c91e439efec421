"""What a builder can do with a Dockerfile, beside what every builder can.

A Dockerfile is read for what it needs, a builder is asked for what it has, and validation compares the two. Features
are named as in messages: `COPY --link`, `RUN --mount`, `heredocs`.

Source: https://docs.docker.com/reference/dockerfile/, which says for each of them since which frontend it exists.
Frontends are the images that `# syntax=` names and that read a Dockerfile. Source:
https://docs.docker.com/build/buildkit/frontend/ and https://hub.docker.com/r/docker/dockerfile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

HEREDOCS = "heredocs"
PLATFORM_ARGS = "predefined platform ARGs"
SECRET_VARIABLES = "RUN --mount=type=secret,env"  # noqa: S105 - no secret
GIT_SOURCES = "ADD of git repositories"
SEVERAL_PLATFORMS = "several platforms in one image"
REWRITE_TIMESTAMP = "rewrite_timestamp of image.json"

EVERYWHERE = frozenset({"FROM --platform", "COPY --chown", "COPY --from", "ADD --chown"})
"""Flags that every builder knows, the engine's classic one included, which stops at any other."""

_BUILDKIT = frozenset(
    {"RUN --mount", "RUN --network", "RUN --security", "RUN --device", SECRET_VARIABLES}
    | {"COPY --chmod", "COPY --link", "COPY --parents", "COPY --exclude"}
    | {"ADD --chmod", "ADD --link", "ADD --checksum", "ADD --keep-git-dir", "ADD --exclude", "ADD --unpack"}
    | {HEREDOCS, PLATFORM_ARGS, GIT_SOURCES, SEVERAL_PLATFORMS, REWRITE_TIMESTAMP}
)
_OF_DOCKERFILES = re.compile(r"(docker\.io/)?docker/dockerfile(-upstream)?(:[^@]+)?(@.+)?")
_ANY_VERSION = re.compile(r"[^:@]+(:1|:latest)?")


@dataclass(frozen=True, slots=True, order=True)
class FeatureUse:
    """A place in a Dockerfile that not every builder can build.

    Attributes:
        line: Line of the instruction, counted from 1.
        feature: The feature's name.
        written: As the Dockerfile has it, e.g. `RUN <<EOF`.
    """

    line: int
    feature: str
    written: str


@dataclass(frozen=True, slots=True)
class BuilderFeatures:
    """The features of one builder.

    Attributes:
        builder: What it is, for messages.
        supported: Names of features, beside those of every builder.
        one_platform: Why it makes no image for several platforms, if it makes none.
    """

    builder: str
    supported: frozenset[str]
    one_platform: str = ""

    def refuses(self, use: FeatureUse) -> bool:
        """Whether the builder stops at a place of a Dockerfile."""
        return use.feature not in self.supported


BUILDKIT = BuilderFeatures("BuildKit", _BUILDKIT)
"""BuildKit as it is today: what is assumed of a builder that cannot be asked."""

CLASSIC = BuilderFeatures("the engine's classic builder", frozenset(), "it builds for the engine's own platform")


def usual_features(os: Literal["linux", "windows"]) -> BuilderFeatures:
    """What is assumed of the builder of an operating system: BuildKit builds no Windows images."""
    return CLASSIC if os == "windows" else BUILDKIT


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
