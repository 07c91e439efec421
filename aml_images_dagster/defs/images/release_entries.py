"""release_config and import_cfg: what each image adds to release.json and to import.cfg."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from aml_images_dagster.catalog.image import Image
from aml_images_dagster.catalog.image_name import group_name
from aml_images_dagster.defs.images.description import kinds, owners
from aml_images_dagster.defs.keys import STAGE_TAG, asset_key
from aml_images_dagster.release.import_cfg import import_entry
from aml_images_dagster.release.release_json import ReleaseImage
from aml_images_dagster.schedules.schedule import Timetable


def entry_specs(image: Image, timetable: Timetable) -> Iterator[dg.AssetSpec]:
    """Both entries of an image; the step of the release files makes them."""
    config, cfg = asset_key(image.id, "release_config"), asset_key(image.id, "import_cfg")
    stale_after = _stale_after(image, timetable)
    shared = {"group_name": group_name(image.family), "owners": owners(image)}
    yield dg.AssetSpec(
        config,
        # Without scenarios a run has no step that tests the image, for which this would wait.
        deps=[asset_key(image.id, "tested"), *(() if image.scenarios else (asset_key(image.id, "staged"),))],
        description="The image's entry in release.json.",
        tags={STAGE_TAG: "release_config"},
        kinds={*kinds(image), "json"},
        **shared,  # type: ignore[arg-type]
    )
    yield dg.AssetSpec(
        cfg,
        deps=[config],
        description="The image's entry in import.cfg.",
        tags={STAGE_TAG: "import_cfg"},
        kinds={*kinds(image), "json"},
        # The last of an image's chain: it is as old as the last build that succeeded as a whole. Builds of pull
        # requests never come to it.
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=stale_after) if stale_after else None,
        **shared,  # type: ignore[arg-type]
    )


def is_watched(image: Image, timetable: Timetable) -> bool:
    """Whether an image has a freshness policy, because a schedule has `stale_after_days`."""
    return _stale_after(image, timetable) is not None


def _stale_after(image: Image, timetable: Timetable) -> timedelta | None:
    return timetable.stale_after(image, datetime.now(UTC).date())


def entry_results(image: ReleaseImage, build: str) -> Iterator[dg.MaterializeResult[None]]:
    """Both entries of an image, made by a build."""
    for stage, document in (
        ("release_config", image.model_dump(mode="json")),
        ("import_cfg", import_entry(image).model_dump(mode="json", by_alias=True)),
    ):
        yield dg.MaterializeResult(
            asset_key=asset_key(f"{image.family}/{image.name}", stage),  # type: ignore[arg-type]
            metadata={"entry": dg.MetadataValue.json(document), "build": dg.MetadataValue.text(build)},
            data_version=dg.DataVersion(image.staging.digest),
        )
