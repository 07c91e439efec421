"""The one launchpad block of a build, however many images it has."""

from __future__ import annotations

import dagster as dg
from pydantic import Field


class BuildOptions(dg.ConfigurableResource[None]):
    """What a person or a trigger may say about a build. Every field may stay empty."""

    # None of them is optional in the sense of the type, because the launchpad hides fields that are.
    release_num: int = Field(
        default=0, description="Number of the release on its day: YYYYMMDD.v<release_num>. 0: not given, 1 is used."
    )
    release_tag: str = Field(default="", description="Replaces the whole release tag; not together with release_num.")
    docker_files_path: str = Field(
        default="", description="Folders to read the image folders from, separated by ';'. Default: the setting."
    )
    source_commit: str = Field(
        default="", description="Commit to take all files from. Default: what the code location was loaded with."
    )
    force: bool = Field(default=False, description="Build and test anew even what has passed already.")
    keep_failed: bool = Field(
        default=False, description="If it fails, keep its images and containers for a while, to look at them."
    )
    reasons: dict[str, list[str]] = Field(
        default_factory=dict, description="Why each image is part of the build, by <family>/<name>."
    )


RESOURCE = "build_options"
