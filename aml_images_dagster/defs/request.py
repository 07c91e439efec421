"""A build as a Dagster run request: its assets, its options, and its tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from aml_images_dagster.defs.keys import RELEASE_FILES, STAGES, Stage, asset_key
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dagster import AssetKey

    from aml_images_dagster.builds.records import Plan

TRIGGER_TAG = "aml-images/trigger"
"""What started a build: `command line`, `schedule`, `upstream bases`, `missing fixes`, `release`, `pull request`."""
COMMAND_LINE = "command line"
DAGSTER_UI = "Dagster UI"
"""What started a build that has no such tag: Dagster gives a click none."""
QUEUE_TAG = ".dagster/aml-images-queue"
"""Which limit of deploy/dagster.yaml holds for a run: `builds`, or none. No page shows a tag that starts like this."""
COMMIT_TAG = "aml-images/commit"
IMAGES_TAG = "aml-images/images"
"""What a build is of: the names of its images, or their number."""
WHO_TAG = "aml-images/who"
"""The person or account that started a build."""
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
        default="", description="Commit to take all files from. Default: the one that the code location has loaded."
    )
    force: bool = Field(default=False, description="Build and test again even if the image has passed already.")
    keep_failed: bool = Field(
        default=False, description="If the build fails, keep its images and containers for inspection."
    )
    reasons: dict[str, list[str]] = Field(
        default_factory=dict, description="Why each image is part of the build, by <family>/<name>."
    )
    plan: str = Field(default="", description="Name of the plan to follow. Default: the run makes its own plan.")


RESOURCE = "build_options"

_LONGEST_LIST = 40
"""Characters that a list of images has on the page of all runs."""

_TRIED: tuple[Stage, ...] = ("staged", "tested")
"""What is made of an image of a pull request: nothing that is released, or that counts as a rebuild."""


def build_keys(images: Iterable[str]) -> list[AssetKey]:
    """The whole chain of some images, and the files of the build."""
    return [*(asset_key(image, stage) for image in images for stage in STAGES), *RELEASE_FILES]


def plan_keys(plan: Plan) -> list[AssetKey]:
    """What a plan says has to be done. The step of the release files records reused images."""
    keys = (key for key in _to_do(plan, STAGES) if key[1] != "tested" or not is_tested_when_staged(plan, key[0]))
    return [*(asset_key(*key) for key in keys), *RELEASE_FILES]


def is_tested_when_staged(plan: Plan, image: str) -> bool:
    """Whether the step that builds an image writes that it has passed, too: without scenarios that is no work."""
    planned = plan.by_name[image]
    return planned.action == "build" and not planned.scenarios


def pull_request_keys(images: Iterable[str]) -> list[AssetKey]:
    """Image and test of some images, for a pull request."""
    return [asset_key(image, stage) for image in images for stage in _TRIED]


def plan_pull_request_keys(plan: Plan) -> list[AssetKey]:
    """What a plan says has to be done for a pull request. One of the tests records reused images."""
    keys = [asset_key(*key) for key in _to_do(plan, _TRIED)]
    return keys or [asset_key(planned.image, "tested") for planned in plan.images[:1]]


def records_unchanged(plan: Plan, image: str) -> bool:
    """Whether it is the test of this image that records what a pull request reuses as it is: the first of its run."""
    tested = [planned.image for planned in plan.images if not planned.is_unchanged]
    return image == next(iter(tested), plan.images[0].image)


def _to_do(plan: Plan, stages: Sequence[Stage]) -> Iterator[tuple[str, Stage]]:
    for planned in plan.images:
        for stage in () if planned.is_unchanged else stages:
            if planned.action == "build" or stage != "staged":
                yield planned.image, stage


def images_tag(images: Iterable[str]) -> str:
    """The value of `IMAGES_TAG`: short enough for the page of all runs."""
    names = sorted(images)
    listed = ", ".join(names)
    return listed if len(names) == 1 or len(listed) <= _LONGEST_LIST else counted(len(names), "image")


def options_of(run: dg.DagsterRun) -> Mapping[str, Any]:
    """The fields of `BuildOptions` that a run was started with."""
    config: Mapping[str, Any] = run.run_config
    options: Mapping[str, Any] = config.get("resources", {}).get(RESOURCE, {}).get("config", {})
    return options


def build_config(**options: Any) -> dict[str, Any]:
    """The run configuration for some of the fields of `BuildOptions`; what is empty is left out."""
    return {"resources": {RESOURCE: {"config": {k: v for k, v in options.items() if v not in (None, "", {}, False)}}}}
