"""How images and stages are named in Dagster."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Literal

from dagster import AssetKey

from aml_images_dagster.catalog.graph import all_cycles
from aml_images_dagster.catalog.image_name import name_fault, plain_name

if TYPE_CHECKING:
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image

Stage = Literal["staged", "tested", "release_config", "import_cfg"]
STAGES: tuple[Stage, ...] = ("staged", "tested", "release_config", "import_cfg")

STAGE_TAG = "stage"
"""Tag of the assets of images: `tag:"stage"="staged"` selects them in the UI."""

_PARTS = 2

RELEASE_GROUP = "release"
RELEASE_JSON = AssetKey(["release", "release.json"])
IMPORT_CFG = AssetKey(["release", "import.cfg"])
OPERATIONS_GROUP = "operations"
CLEANUP = AssetKey(["operations", "cleanup"])
FLEET = AssetKey(["operations", "fleet"])
ENDED_BUILDS = AssetKey(["operations", "ended_builds"])
SCHEDULES_GROUP = "schedules"
UPSTREAM_GROUP = "upstream"
REBUILT = "images_are_rebuilt"
UPSTREAM_SENSOR = "upstream_bases"
PUBLIC_SOURCE = AssetKey(["operations", "public_source"])
PUBLIC_DOCS = AssetKey(["operations", "public_docs"])
NOTHING_LEFT = "nothing_left"

DROP = AssetKey(["release", "drop"])
RELEASE_FILES = (RELEASE_JSON, IMPORT_CFG, DROP)

PRODUCTION_GROUP = "production"
PROMOTED = "promoted"
PATCHED = "patched"

LOCATION = "aml_images_dagster"
"""The code location, as workspace.yaml names it."""

REQUEST_JOB = "build"
"""What a person opens in the UI; it plans a build and starts its run."""
BUILD_JOB = "build_images"
"""The job of every run that is a build and has a plan."""
SCAN_JOB = "scan_production"
CLEANUP_JOB = "cleanup"
FLEET_JOB = "fleet"
ENDING_JOB = "end_pull_request_builds"
RELEASE_JOB = "release"
ROLLBACK_JOB = "rollback"
WITHDRAW_JOB = "withdraw"

# Steps whose configuration is what a person writes in the launchpad.
REQUEST = "request_build"
RELEASED = "released"
ROLLBACK = "roll_back_latest"
WITHDRAW = "withdraw_tag"


def asset_key(image: str, stage: Stage) -> AssetKey:
    """Key of one stage of an image, `<family>/<name>.<stage>`: the UI labels a node with the last part only."""
    family, name = image.split("/")
    return AssetKey([family, f"{name}.{stage}"])


def released_key(image: str) -> AssetKey:
    """Key of what production serves of an image, `<family>/<name>.released`."""
    family, name = image.split("/")
    return AssetKey([family, f"{name}.released"])


def image_of(key: AssetKey) -> tuple[str, Stage] | None:
    """Image and stage of a key; None for the files of a build."""
    name, _, last = key.path[-1].rpartition(".")
    stage = next((stage for stage in STAGES if stage == last), None)
    return (f"{key.path[0]}/{name}", stage) if stage and len(key.path) == _PARTS else None


def is_of_build(key: AssetKey) -> bool:
    """Whether an asset is made by builds only."""
    return key in RELEASE_FILES or image_of(key) is not None


def base_key(base: str) -> AssetKey:
    """Key of an external base by its full name, with -- for the colon, which Dagster does not allow.

    The UI labels a node with the last part: `ubuntu--22.04`.
    """
    return AssetKey([UPSTREAM_GROUP, *(re.sub(r"[^A-Za-z0-9_.-]+", "--", part) for part in base.split("/"))])


def images_with_assets(catalog: Catalog) -> list[Image]:
    """The images that Dagster knows.

    An image that cannot be built at all has no assets, so that the others load: one whose Dockerfile cannot be read,
    whose name no registry accepts, whose name Dagster could not distinguish from another, or that is FROM an image that
    is FROM it. Validation reports it.
    """
    cycles = all_cycles(catalog.parents)
    named = [image for image in catalog.images.values() if name_fault(image.family, image.name) is None]
    names = Counter(plain_name(image.family, image.name) for image in named)
    return [
        image
        for image in named
        if image.parsed and names[plain_name(image.family, image.name)] == 1 and image.id not in cycles
    ]
