"""What a builder can do with a Dockerfile, beside what every builder can.

A Dockerfile is read for what it needs, a builder is asked for what it has, and validation compares the two. Features
are named as in messages: `COPY --link`, `RUN --mount`, `heredocs`.

Source: https://docs.docker.com/reference/dockerfile/, which says for each of them since which frontend it exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HEREDOCS = "heredocs"
PLATFORM_ARGS = "predefined platform ARGs"
SECRET_VARIABLES = "RUN --mount=type=secret,env"  # noqa: S105 - no secret
GIT_SOURCES = "ADD of git repositories"
SEVERAL_PLATFORMS = "several platforms in one image"

EVERYWHERE = frozenset({"FROM --platform", "COPY --chown", "COPY --from", "ADD --chown"})
"""Flags that every builder knows, the engine's classic one included, which stops at any other."""

_BUILDKIT = frozenset(
    {"RUN --mount", "RUN --network", "RUN --security", "RUN --device", SECRET_VARIABLES}
    | {"COPY --chmod", "COPY --link", "COPY --parents", "COPY --exclude"}
    | {"ADD --chmod", "ADD --link", "ADD --checksum", "ADD --keep-git-dir", "ADD --exclude", "ADD --unpack"}
    | {HEREDOCS, PLATFORM_ARGS, GIT_SOURCES, SEVERAL_PLATFORMS}
)


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
