"""release_config and import_cfg: what each image adds to release.json and to import.cfg. One step for all images."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from aml_images_dagster.catalog.image import Image
from aml_images_dagster.catalog.image_name import group_name
from aml_images_dagster.defs.images.description import kinds, owners
from aml_images_dagster.defs.keys import STAGE_TAG, asset_key, image_of
from aml_images_dagster.defs.operations.cleanup import cleanup_hook
from aml_images_dagster.defs.request import BuildOptions
from aml_images_dagster.defs.run import Workshop
from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.import_cfg import import_entry
from aml_images_dagster.release.release_json import release_image
from aml_images_dagster.schedules.schedule import Timetable


def release_entries(images: Sequence[Image], timetable: Timetable) -> dg.AssetsDefinition:
    """Both entries of every image; a run makes those that it was started for."""

    @dg.multi_asset(
        name="release_entries",
        specs=[spec for image in images for spec in _specs(image, timetable)],
        can_subset=True,
        hooks={cleanup_hook},
    )
    def entries(
        context: dg.AssetExecutionContext, build_options: BuildOptions, workshop: dg.ResourceParam[Workshop]
    ) -> Iterator[dg.MaterializeResult[None]]:
        with workshop.step(context, build_options) as session:
            if session.pull_request:
                raise BadInput(
                    "a build of a pull request ends with its tests",
                    where=f"pull request {session.pull_request}",
                    mend="Merge it, and build the main branch: what passed is taken over.",
                )
            session.begin()
            selected = sorted(split[0] for key in context.selected_asset_keys if (split := image_of(key)))
            for name in dict.fromkeys(selected):
                config = release_image(session, name)
                entry = import_entry(config)
                for stage, document in (
                    ("release_config", config.model_dump(mode="json")),
                    ("import_cfg", entry.model_dump(mode="json", by_alias=True)),
                ):
                    key = asset_key(name, stage)  # type: ignore[arg-type]
                    if key in context.selected_asset_keys:
                        yield dg.MaterializeResult(
                            asset_key=key,
                            metadata={
                                "entry": dg.MetadataValue.json(document),
                                "build": dg.MetadataValue.text(session.number),
                            },
                            data_version=dg.DataVersion(config.staging.digest),
                        )

    return entries


def _specs(image: Image, timetable: Timetable) -> Iterator[dg.AssetSpec]:
    config, cfg = asset_key(image.id, "release_config"), asset_key(image.id, "import_cfg")
    stale_after = timetable.stale_after(image, datetime.now(UTC).date())
    shared = {"group_name": group_name(image.family), "owners": owners(image)}
    yield dg.AssetSpec(
        config,
        deps=[asset_key(image.id, "tested")],
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
