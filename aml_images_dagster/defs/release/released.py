"""Production: one asset per image, materialized by releasing a build, and the check of its promotion."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from aml_images_dagster.builds.ledger import LATEST, Ledger, ReleaseRecord, TagChange
from aml_images_dagster.builds.records import EvidenceRecord
from aml_images_dagster.builds.versions.difference_markdown import as_markdown
from aml_images_dagster.builds.versions.release_notes import notes_as_markdown, read_notes
from aml_images_dagster.catalog.image import Image
from aml_images_dagster.catalog.reference import short_digest
from aml_images_dagster.defs.images.checks import without_result
from aml_images_dagster.defs.images.description import evidence_metadata, kinds, owners
from aml_images_dagster.defs.keys import (
    PRODUCTION_GROUP,
    PROMOTED,
    RELEASE_JOB,
    RELEASED,
    STAGE_TAG,
    asset_key,
    released_key,
)
from aml_images_dagster.defs.operations.cleanup import is_build
from aml_images_dagster.defs.release.launchpad import build_link, release_link, rollback_link
from aml_images_dagster.defs.run import Factory, acting, explained, step_log
from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.candidate import completed
from aml_images_dagster.release.dependents import dependents
from aml_images_dagster.release.production import Releaser, window_closed
from aml_images_dagster.release.public_availability import PublicTag, await_promotion, problems
from aml_images_dagster.release.release_plan import ReleasePlan
from aml_images_dagster.settings import Settings


class ReleaseOptions(dg.Config):
    """The launchpad block of a release."""

    # Not required, so that the launchpad shows it with the others.
    build: str = Field(
        default="", description="Number of the build to release with all its images, e.g. 20261123.4f2a9c1e."
    )
    dry_run: bool = Field(default=False, description="Only show what would change, tag by tag.")
    outside_window: str = Field(
        default="", description="Why it is released outside of the release windows; recorded. Default: it is not."
    )
    accept_major: bool = Field(
        default=False, description="Release changes that may break users, as the dry run names them; recorded."
    )
    who: str = Field(default="", description="Who releases it; recorded. Default: the setting release.who.")


def released_assets(images: Sequence[Image], settings: Settings) -> dg.AssetsDefinition:
    """One step that releases a build and then waits for its promotion.

    If only the check is selected, it waits for the promotion of the last release or rollback, from any machine: of
    the build that is named, or else of each image.
    """
    keys = {released_key(image.id): image.id for image in images}

    @dg.multi_asset(
        name=RELEASED,
        specs=[
            dg.AssetSpec(
                released_key(image.id),
                deps=[asset_key(image.id, "import_cfg")],
                group_name=PRODUCTION_GROUP,
                description="What production serves as the latest. Materialize it to release a build.",
                kinds=kinds(image),
                tags={STAGE_TAG: "released"},
                owners=owners(image),
                skippable=True,
            )
            for image in images
        ],
        check_specs=[
            dg.AssetCheckSpec(PROMOTED, asset=key, description="The public registry serves what was released.")
            for key in keys
            if settings.release.public_names  # else nothing is promoted, and nothing may look as if it were
        ],
        can_subset=True,
    )
    def released(
        context: dg.AssetExecutionContext, config: ReleaseOptions, factory: dg.ResourceParam[Factory]
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult | dg.Output[None]]:
        with explained():
            selected = context.selected_asset_keys
            wanted = {keys[key.asset_key] for key in context.selected_asset_check_keys}
            skipped = _not_now(context, config) if selected else ""
            if skipped:
                context.log.warning(skipped)
                yield from without_result(context)
                return
            if selected or config.dry_run:
                release = completed(config.build, factory.backends.artifacts)
                who = acting(context.run, config.who, factory.settings)
                releaser = Releaser(factory.backends, factory.settings, who, step_log)
            if config.dry_run:
                plan = releaser.plan(release, scanned=True)
                closed = window_closed(factory.settings, datetime.now(UTC))
                for image, planned in by_image(plan.changes).items():
                    shown = _plan_metadata(planned, plan.lacks.get(image, ""), closed) | difference_metadata(
                        plan, image
                    )
                    shown["release"] = release_link(release.build)
                    context.log_event(dg.AssetObservation(released_key(image), metadata=shown))
                return
            if selected:
                done = releaser.release(release, outside_window=config.outside_window, accept_major=config.accept_major)
                for image in by_image(done.record.changes):
                    metadata = release_metadata(done.record, image, factory)
                    if released_key(image) in selected:
                        yield dg.MaterializeResult(released_key(image), metadata=metadata)
                    else:  # a build is released as a whole, whatever was clicked on
                        context.log_event(dg.AssetMaterialization(released_key(image), metadata=metadata))
                changes = done.record.changes
            else:
                changes = _last_moves(wanted, config.build, Ledger(factory.backends.artifacts).records())
            tags = await_promotion(changes, factory.settings, step_log)
            moved = by_image(changes)
            promoted = sorted(wanted & moved.keys())
            for image in promoted:
                yield promotion_result(image, tags)
            yield from without_result(context, {dg.AssetCheckKey(released_key(image), PROMOTED) for image in promoted})

    return released


def _not_now(context: dg.AssetExecutionContext, config: ReleaseOptions) -> str:
    """Why nothing is released although it was selected; empty for a release.

    "Materialize all" selects it together with a build, which a release that fails would take back.
    """
    if is_build(context.instance, context.run.run_id):
        return "nothing is released: this run is a build; release it by the links of release.json when it has succeeded"
    if not config.build and not config.dry_run and context.run.job_name != RELEASE_JOB:
        return f"nothing is released: no build is named; open the launchpad of the job {RELEASE_JOB} and name one"
    return ""


def _last_moves(images: Collection[str], build: str, records: Sequence[ReleaseRecord]) -> tuple[TagChange, ...]:
    """The changes of each image's last release or rollback; with a build, only its own.

    Raises:
        BadInput: There was none.
    """
    moves: dict[str, list[TagChange]] = {}
    for record in records:
        if record.done and record.action != "withdrawal" and build in ("", record.build):
            moves |= {image: changes for image, changes in by_image(record.changes).items() if image in images}
    if not moves:
        raise BadInput(
            f"these images have no recorded release{f' of build {build}' if build else ''}",
            hint="Release a build first; `aml-images releases` shows what was released.",
        )
    return tuple(change for changes in moves.values() for change in changes)


def by_image(changes: Sequence[TagChange]) -> dict[str, list[TagChange]]:
    """The changes of each image."""
    found: dict[str, list[TagChange]] = {}
    for change in changes:
        found.setdefault(change.image, []).append(change)
    return found


def release_metadata(record: ReleaseRecord, image: str, factory: Factory) -> dict[str, Any]:
    """What the UI shows of an image in production."""
    latest = record.change(image, LATEST)
    ledger = Ledger(factory.backends.artifacts)
    metadata: dict[str, Any] = {
        "action": record.action,
        "since": dg.MetadataValue.timestamp(record.when),
        "who": record.who,
        "build": record.build,
        "commit": record.commit,
        "release_tag": record.release_tag,
        "changes": changes_table([c for c in record.changes if c.image == image]),
        "record": dg.MetadataValue.int(record.number),
    }
    if latest is not None:
        metadata["digest"] = latest.after or ""
        metadata["before"] = latest.before or ""
        metadata["roll_back"] = rollback_link(image)
        evidence = _evidence_of(record, image, factory)
        metadata |= evidence_metadata(evidence, f"{factory.backends.production.url}/v2/{latest.repository}")
    if record.outside_window:
        metadata["outside_window"] = record.outside_window
    if record.reason:
        metadata["reason"] = record.reason
    notes = read_notes(factory.backends.artifacts.build(record.build), image)
    if latest is not None and notes is not None:
        metadata["release_notes"] = dg.MetadataValue.md(
            "\n\n".join(notes_as_markdown(notes, (notes.since, notes.same_as)))
        )
    accepted = [each for each in record.accepted_major if each.startswith(f"{image}:")]
    if accepted:
        metadata["accepted_major"] = "; ".join(accepted)
    if record.action == "release":
        following = dependents(record, factory.source.catalog, factory.backends.artifacts, ledger.records())
        metadata["to_build_next"] = build_link(following)
    return metadata


def _evidence_of(record: ReleaseRecord, image: str, factory: Factory) -> EvidenceRecord | None:
    """What the build of a release has attached; None if its records are gone or cannot be read."""
    with suppress(BadInput):
        return factory.backends.artifacts.build(record.build).read_evidence(image)
    return None


def difference_metadata(plan: ReleasePlan, image: str) -> dict[str, Any]:
    """What a release would change for users of an image."""
    found = plan.differences.get(image)
    if found is None:
        return {"what_changed": plan.not_compared[image]} if image in plan.not_compared else {}
    return {"what_changed": dg.MetadataValue.md(as_markdown(found))}


def announce_change(
    instance: dg.DagsterInstance, record: ReleaseRecord, factory: Factory, report: Callable[[Any], None]
) -> bool:
    """Show a change of production in the UI, unless it is shown already.

    Args:
        instance: Knows what is shown.
        record: What was done.
        factory: The catalog and the ledger.
        report: Takes the events: of a step, or of the instance.

    Returns:
        Whether anything was to show.
    """
    images = [image for image in by_image(record.changes) if _shown(instance, image) < record.number]
    for image in images:
        # Production serves something else as the latest only if :latest was moved.
        event = dg.AssetMaterialization if record.change(image, LATEST) else dg.AssetObservation
        report(event(asset_key=released_key(image), metadata=release_metadata(record, image, factory)))
    return bool(images)


def _shown(instance: dg.DagsterInstance, image: str) -> int:
    """The number of the last record that the UI shows of an image; 0 when it shows none."""
    key = released_key(image)
    events = [
        *(r.event_log_entry.asset_materialization for r in instance.fetch_materializations(key, limit=1).records),
        *(r.event_log_entry.asset_observation for r in instance.fetch_observations(key, limit=1).records),
    ]
    numbers = (event.metadata.get("record") for event in events if event is not None)
    return max((n.value or 0 for n in numbers if isinstance(n, dg.IntMetadataValue)), default=0)


def promotion_result(image: str, tags: Sequence[PublicTag]) -> dg.AssetCheckResult:
    """A late tag is a warning, another digest is an error."""
    ours = [tag for tag in tags if tag.image == image]
    wrong, late = problems(ours, "wrong"), problems(ours, "late")
    said = "; ".join(wrong + late)
    if not said:
        said = "served"
    return dg.AssetCheckResult(
        asset_key=released_key(image),
        check_name=PROMOTED,
        passed=not wrong and not late,
        severity=dg.AssetCheckSeverity.ERROR if wrong else dg.AssetCheckSeverity.WARN,
        description=said,
        metadata={"tags": dg.MetadataValue.json([f"{tag.reference}: {tag.state}" for tag in ours])},
    )


def _plan_metadata(changes: list[TagChange], lacks: str, closed: str) -> dict[str, Any]:
    remarks = {"lacks": lacks, "must_wait": closed}
    shown = {"action": "dry run", "changes": changes_table(changes)}
    return shown | {name: remark for name, remark in remarks.items() if remark}


def changes_table(changes: Sequence[TagChange]) -> dg.TableMetadataValue:
    """Tag by tag: the old digest and the new one."""
    rows = [
        dg.TableRecord(
            {
                "tag": change.name,
                "before": short_digest(change.before or "-"),
                "after": short_digest(change.after or "-"),
            }
        )
        for change in changes
    ]
    return dg.MetadataValue.table(rows)
