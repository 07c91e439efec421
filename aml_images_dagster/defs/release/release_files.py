"""The results of a build: the entries of its images, release.json, import.cfg and the drop. One step makes them all.

It runs last, and only if all steps before have succeeded. Images that the build reuses unchanged have no steps, and
are recorded here first.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from aml_images_dagster.builds.planning.preflight import begin_checked
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.catalog.image import Image
from aml_images_dagster.catalog.image_name import group_name
from aml_images_dagster.defs.images.description import kinds, owners
from aml_images_dagster.defs.images.not_built import gate_reused, left_out, report_unchanged
from aml_images_dagster.defs.keys import (
    DROP,
    IMPORT_CFG,
    RELEASE_FILES,
    RELEASE_GROUP,
    RELEASE_JSON,
    STAGE_TAG,
    STAGES,
    asset_key,
    image_of,
)
from aml_images_dagster.defs.operations.cleanup import cleanup_hook
from aml_images_dagster.defs.release.launchpad import release_links
from aml_images_dagster.defs.request import BuildOptions
from aml_images_dagster.defs.run import Factory
from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.import_cfg import import_entry
from aml_images_dagster.release.release_files import Publication, publish
from aml_images_dagster.release.release_json import ReleaseImage, release_image
from aml_images_dagster.schedules import Timetable
from aml_images_dagster.text import code


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


def release_files(images: Sequence[Image], timetable: Timetable) -> dg.AssetsDefinition:
    """The entries of every image and the three files of a build; a run makes those that it was started for."""

    @dg.multi_asset(
        name="release_files",
        specs=[*(spec for image in images for spec in entry_specs(image, timetable)), *_file_specs(images)],
        can_subset=True,
        hooks={cleanup_hook},
    )
    def files(
        context: dg.AssetExecutionContext, build_options: BuildOptions, factory: dg.ResourceParam[Factory]
    ) -> Iterator[dg.MaterializeResult[None] | dg.Output[None] | dg.AssetCheckEvaluation]:
        selected = context.selected_asset_keys
        with factory.step(context, build_options) as session:
            if session.pull_request:
                raise BadInput(
                    "a build of a pull request ends with its tests",
                    where=f"pull request {session.pull_request}",
                    hint="Merge it, and build the main branch.",
                )
            if session.plan:
                begin_checked(session)  # it may be the only step of the run
                report_unchanged(context, session)
                yield from gate_reused(session)
            else:
                session.begin()
            for key in (asset_key(image, stage) for image in sorted(session.left_out) for stage in STAGES):
                if key in selected:
                    yield from left_out(context, session, key)
            chosen = {split[0] for key in selected if (split := image_of(key))}
            names = dict.fromkeys(sorted(chosen - session.left_out.keys()))
            if selected.isdisjoint(RELEASE_FILES):  # the chains of some images were asked for, and no more
                yield from _entries((release_image(session, name) for name in names), session, selected)
                return
            publication = publish(session)
            entries = {f"{image.family}/{image.name}": image for image in publication.release.images}
            yield from _entries((entries[name] for name in names), session, selected)
            for name in entries.keys() - names.keys():
                if is_watched(session.image(name), factory.timetable):
                    context.log_event(_rebuilt(entries[name], session))
            yield from _files(publication, session, selected)

    return files


def _file_specs(images: Sequence[Image]) -> Iterator[dg.AssetSpec]:
    yield dg.AssetSpec(
        RELEASE_JSON,
        deps=[asset_key(image.id, "release_config") for image in images],
        description="What the build made: images, digests, reasons, bases and tests.",
        group_name=RELEASE_GROUP,
        kinds={"json"},
    )
    yield dg.AssetSpec(
        IMPORT_CFG,
        deps=[asset_key(image.id, "import_cfg") for image in images],
        description="What production imports from staging, and under which names.",
        group_name=RELEASE_GROUP,
        kinds={"json"},
    )
    yield dg.AssetSpec(
        DROP,
        deps=[RELEASE_JSON, IMPORT_CFG],
        description="The folder for the release system: import.cfg, release.json, checksums, ServiceGroupRoot.",
        group_name=RELEASE_GROUP,
        kinds={"file"},
    )


def _entries(
    images: Iterator[ReleaseImage], session: BuildSession, selected: set[dg.AssetKey]
) -> Iterator[dg.MaterializeResult[None]]:
    for image in images:
        for result in entry_results(image, session.number):
            if result.asset_key in selected:
                yield result


def _rebuilt(image: ReleaseImage, session: BuildSession) -> dg.AssetMaterialization:
    """A reused image with a freshness policy counts as built again now."""
    *_, entry = entry_results(image, session.number)
    assert entry.asset_key is not None  # noqa: S101 - see there
    return dg.AssetMaterialization(
        entry.asset_key, metadata=entry.metadata, tags={"dagster/data_version": image.staging.digest}
    )


def _files(
    publication: Publication, session: BuildSession, selected: set[dg.AssetKey]
) -> Iterator[dg.MaterializeResult[None]]:
    shared = {
        "build": dg.MetadataValue.text(session.number),
        "release_tag": dg.MetadataValue.text(session.release_tag),
        "images": dg.MetadataValue.int(len(publication.release.images)),
    }
    documents = {
        RELEASE_JSON: dg.MetadataValue.json(publication.release.model_dump(mode="json")),
        IMPORT_CFG: dg.MetadataValue.json(publication.cfg.model_dump(mode="json", by_alias=True)),
        DROP: dg.MetadataValue.md("\n".join(f"- {code(path)}" for path in publication.drop)),
    }
    for key, document in documents.items():
        if key in selected:
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    "content": document,
                    "path": dg.MetadataValue.path(str(session.folder.root / key.path[-1])),
                    **shared,
                    **({"release": release_links(session.number)} if key == RELEASE_JSON else {}),
                },
            )
