"""What a build of certain images is for Dagster: its assets, its options, and the tags by which runs are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from aml_images_dagster.defs.keys import DROP, IMPORT_CFG, RELEASE_JSON, STAGES, asset_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dagster import AssetKey

TRIGGER_TAG = "aml-images/trigger"
"""What started a build: `command line`, `schedule`, `upstream bases`, `release`, `pull request`."""
COMMAND_LINE = "command line"
DAGSTER_UI = "Dagster UI"
"""What started a build that has no such tag: Dagster gives a click none."""
COMMIT_TAG = "aml-images/commit"
BUILD_TAG = "aml-images/build"
"""The build's number, so that the page of all runs shows it."""
PULL_REQUEST_TAG = "aml-images/pull-request"
"""Number of the pull request that a build is for."""
SEEN_TAG = "aml-images/seen"
"""When the pull request was first seen open with that commit, in seconds since the epoch."""
REMOTE_TAG = "aml-images/remote"
"""The git remote that the pull request is on."""
SCHEDULE_TAG = "aml-images/schedule"
"""Name of the schedule that started a build."""
RELEASE_BY_TAG = "aml-images/release-by"
"""When a scheduled build that is meant for release has to be released, in ISO 8601."""
RELEASE_RULE_TAG = "aml-images/release-rule"
"""`approval` or `automatic`; see `ScheduleFile.release`."""
WARNING_TAG = "aml-images/warning"
"""Something about the whole build that a person should know, in a few words."""


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


def build_keys(images: Iterable[str]) -> list[AssetKey]:
    """The whole chain of some images, and the files of the build."""
    return [*(asset_key(image, stage) for image in images for stage in STAGES), RELEASE_JSON, IMPORT_CFG, DROP]


def pull_request_keys(images: Iterable[str]) -> list[AssetKey]:
    """What a build of a pull request makes of some images: nothing that is released, or that counts as a rebuild."""
    return [asset_key(image, stage) for image in images for stage in ("staged", "tested")]


def build_config(**options: Any) -> dict[str, Any]:
    """The run configuration for some of the fields of `BuildOptions`; what is empty is left out."""
    return {"resources": {RESOURCE: {"config": {k: v for k, v in options.items() if v not in (None, "", {}, False)}}}}
