"""The sensor that has production scanned once a day, and starts the rebuilds that bring the fixes which it lacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from aml_images_dagster.builds.compliance.patches import ProductionScans
from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.defs.keys import BUILD_JOB, PATCHED, SCAN_JOB, images_with_assets, released_key
from aml_images_dagster.defs.main_branch import main_build
from aml_images_dagster.defs.patches.rebuilds import WantedRebuild, next_rebuilds
from aml_images_dagster.defs.request import PULL_REQUEST_TAG, images_tag
from aml_images_dagster.defs.run import images_of
from aml_images_dagster.defs.run_state import UNFINISHED, InstanceRuns
from aml_images_dagster.defs.ticks import sensor_status, skips_while_unreachable
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set

    from aml_images_dagster.builds.compliance.patches import ProductionScan
    from aml_images_dagster.catalog.catalog import Reasons
    from aml_images_dagster.defs.main_branch import MainBranch, MainImages
    from aml_images_dagster.defs.operations.jobs import AssetJob
    from aml_images_dagster.defs.run import Factory

PATCH_SENSOR = "patches"
TRIGGER = "missing fixes"
FIXES_TAG = "aml-images/fixes"
"""The images whose missing fixes have started a build."""
_RUN_KEY_TAG = "dagster/run_key"
"""By which Dagster itself finds the run of a request."""
_RETRY = timedelta(minutes=30)
"""After a scan that failed; doubled after each further one, up to the time between two scans."""
_IN_A_ROW = 3


class PatchState(BaseModel):
    """What the sensor keeps between two ticks.

    Attributes:
        scan: Run key of the scan that was asked for and has not ended; else empty.
        asked: When a scan was asked for last, UTC.
        whole: When a scan of all images was asked for last, UTC.
        failures: Scans that failed, or in which a source failed, one after the other.
        why: What was wrong with the last of them.
        images: The images for which rebuilds are wanted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scan: str = ""
    asked: AwareDatetime | None = None
    whole: AwareDatetime | None = None
    failures: int = 0
    why: str = ""
    images: dict[str, WantedRebuild] = Field(default_factory=dict)

    def retry_at(self, longest: timedelta) -> datetime | None:
        """When a scan that failed is tried again."""
        if not self.failures or self.asked is None:
            return None
        return self.asked + min(_RETRY * (1 << min(self.failures - 1, 20)), longest)


def patches_sensor(factory: Factory, main: MainBranch, scan_job: AssetJob, build_job: AssetJob) -> dg.SensorDefinition:
    """The sensor.

    Args:
        factory: Settings and artifacts.
        main: The main branch, whose images are rebuilt.
        scan_job: The job that asks the sources.
        build_job: The job that builds.
    """
    settings = factory.settings
    known = {image.id for image in images_with_assets(factory.source.catalog)}
    every = timedelta(hours=settings.vulnerabilities.scan_hours)

    @dg.sensor(
        name=PATCH_SENSOR,
        jobs=[scan_job, build_job],
        description="Has production scanned for missing fixes once a day, and builds what a rebuild repairs.",
        minimum_interval_seconds=settings.upstream.interval_seconds,
        default_status=sensor_status(settings),
    )
    @skips_while_unreachable
    def patches(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now, instance = datetime.now(UTC), context.instance
        of_main, state = main.images(), _read(context.cursor)
        if InstanceRuns(instance, settings.host_patience_seconds).is_under_way(SCAN_JOB):
            return dg.SensorResult(skip_reason="production is being scanned", cursor=context.cursor)
        scans = ProductionScans(factory.backends.artifacts).read_all()
        scans = {image: scan for image, scan in scans.items() if image in known}
        before, state = state, _after_scan(state, scans, instance)
        state = state.model_copy(update={"images": _wanted(state, scans, of_main, instance, now)})
        scan = _next_scan(state, scans, factory, known, instance, now, every)
        if scan is not None:
            whole = {"whole": now} if scan.asset_check_keys is None else {}
            state = state.model_copy(update={"scan": scan.run_key, "asked": now, **whole})
            return dg.SensorResult(run_requests=[scan], cursor=state.model_dump_json())
        requests = []
        if chosen := _to_rebuild(state, factory, instance, now):
            key = f"{PATCH_SENSOR} {now.isoformat()}"
            requests.append(
                main_build(
                    factory,
                    of_main,
                    _to_build(chosen, state, of_main, now),
                    instance,
                    context.log,
                    run_key=key,
                    trigger=TRIGGER,
                    tags={FIXES_TAG: images_tag(chosen)},
                    force=not _forced(scans).isdisjoint(chosen),
                    job_name=BUILD_JOB,
                )
            )
            started = {image: state.images[image].started(key) for image in chosen}
            state = state.model_copy(update={"images": state.images | started})
        elif before.failures >= _IN_A_ROW and not before.scan:  # a tick that fails keeps nothing
            raise FactoryError(
                f"{before.failures} scans of production failed, one after the other: {before.why}",
                where=PATCH_SENSOR,
                hint=f"The log of the job {SCAN_JOB} says more. It is tried again automatically.",
            )
        said = "; ".join((*_report(state, scans, now, every), *of_main.left_out))
        context.log.info(said)
        return dg.SensorResult(
            run_requests=requests, skip_reason=None if requests else said, cursor=state.model_dump_json()
        )

    return patches


def _read(cursor: str | None) -> PatchState:
    try:
        return PatchState.model_validate_json(cursor) if cursor else PatchState()
    except ValidationError:
        raise BadInput(
            "the cursor is not one of this sensor",
            where=PATCH_SENSOR,
            hint="Clear it in the UI: the next tick has production scanned.",
        ) from None


def _after_scan(state: PatchState, scans: Mapping[str, ProductionScan], instance: dg.DagsterInstance) -> PatchState:
    """After a look at the scan that was asked for, which does not run any more."""
    if not state.scan:
        return state
    run = _run(instance, state.scan)
    failed = {
        f"{source}: {why}": None
        for scan in scans.values()
        if state.asked and scan.asked >= state.asked
        for source, why in scan.failed.items()
    }
    if run is None or run.dagster_run.status is not dg.DagsterRunStatus.SUCCESS:
        failed = {"its run did not succeed": None}
    why = "; ".join(failed)
    return state.model_copy(update={"scan": "", "failures": state.failures + 1 if why else 0, "why": why})


def _wanted(
    state: PatchState,
    scans: Mapping[str, ProductionScan],
    main: MainImages,
    instance: dg.DagsterInstance,
    now: datetime,
) -> dict[str, WantedRebuild]:
    """The images to rebuild, after a look at the scans and at the builds that were started."""
    found: dict[str, WantedRebuild] = {}
    by_image = _by_image(scans, main, now)
    for image in sorted(by_image.keys() | state.images.keys()):
        about = by_image.get(image, [])
        fixes = tuple(dict.fromkeys(line for scan in about for line in _fixes(scan, image)))
        wanted = state.images.get(image) or WantedRebuild(fixes=fixes)
        if wanted.build:
            wanted = _after_build(wanted, about, instance, now)
        if fixes:
            wanted = wanted.wanting(fixes)
        if wanted.tried and any(scan.by_person and scan.asked > wanted.tried for scan in about):
            wanted = wanted.resumed()
        if fixes or wanted.build:
            found[image] = wanted
    return found


def _after_build(
    wanted: WantedRebuild, scans: Sequence[ProductionScan], instance: dg.DagsterInstance, now: datetime
) -> WantedRebuild:
    """After a look at its build. What a build has brought is known from scans that came after it."""
    run = _run(instance, wanted.build)
    if run is not None and not run.dagster_run.is_finished:
        return wanted
    if run is None or not run.dagster_run.is_success:
        return wanted.in_vain("the build failed", now)
    if any(_is_older(scan, run) for scan in scans):
        return wanted
    return wanted.in_vain("the build did not bring it", now) if scans else wanted.model_copy(update={"build": ""})


def _is_older(scan: ProductionScan, run: dg.RunRecord) -> bool:
    return run.end_time is not None and scan.asked.timestamp() < run.end_time


def _next_scan(
    state: PatchState,
    scans: Mapping[str, ProductionScan],
    factory: Factory,
    known: Set[str],
    instance: dg.DagsterInstance,
    now: datetime,
    every: timedelta,
) -> dg.RunRequest | None:
    """The scan that is due: of all images; of those of which one has failed; of those that have changed since."""
    keys: list[dg.AssetCheckKey] | None = None
    if state.whole is not None and now - state.whole < every:
        retry = state.retry_at(every)
        since = (
            _released_since(state, scans, factory),
            _rebuilt(state, scans, instance),
            _passed_since(state, scans, factory, now),
        )
        images: Set[str] = set().union(*since) & known
        if retry is not None and now >= retry:
            failed = {image for image, scan in scans.items() if scan.failed}
            images = images | failed if failed else known  # a run that broke off may have left out any of them
        if not images:
            return None
        if images != known:
            keys = [dg.AssetCheckKey(released_key(image), PATCHED) for image in sorted(images)]
    return dg.RunRequest(run_key=f"{SCAN_JOB} {now.isoformat()}", job_name=SCAN_JOB, asset_check_keys=keys)


def _released_since(state: PatchState, scans: Mapping[str, ProductionScan], factory: Factory) -> set[str]:
    """Images of which production serves something else since they were scanned, as the ledger says."""
    latest = {
        change.image: (record.when, change.after)
        for record in History(Ledger(factory.backends.artifacts).records()).changes
        if record.done
        for change in record.changes
        if change.tag == LATEST
    }
    return {
        image
        for image, (when, digest) in latest.items()
        if digest
        and (scans[image].digest != digest and scans[image].asked < when if image in scans else _is_new(state, when))
    }


def _is_new(state: PatchState, when: datetime) -> bool:
    """Whether something was done after a scan was asked for last; else that scan has found nothing in production."""
    return state.asked is None or state.asked < when


def _rebuilt(state: PatchState, scans: Mapping[str, ProductionScan], instance: dg.DagsterInstance) -> set[str]:
    """Images of which a scan is older than the end of the build that is to bring what they lack."""
    ended = {
        image: run
        for image, wanted in state.images.items()
        if wanted.build and (run := _run(instance, wanted.build)) and run.dagster_run.is_success
    }
    return {
        name
        for name, scan in scans.items()
        for rebuild in scan.rebuilds
        if rebuild.image in ended and _is_older(scan, ended[rebuild.image])
    }


def _passed_since(state: PatchState, scans: Mapping[str, ProductionScan], factory: Factory, now: datetime) -> set[str]:
    """Images of which a scan wants something rebuilt that another build may have repaired since."""
    due = (image for image, wanted in state.images.items() if wanted.phase(now) == "due")
    passed = {image: at for image in due if (at := factory.backends.artifacts.last_passed_at(image))}
    return {
        name
        for name, scan in scans.items()
        for rebuild in scan.rebuilds
        if rebuild.image in passed and scan.asked < passed[rebuild.image]
    }


def _to_rebuild(state: PatchState, factory: Factory, instance: dg.DagsterInstance, now: datetime) -> list[str]:
    """The images to rebuild now, without those that another build is at: it may repair them."""
    chosen = next_rebuilds(state.images, now)
    runs = instance.get_run_records(dg.RunsFilter(job_name=BUILD_JOB, statuses=UNFINISHED)) if chosen else ()
    being_built = {
        image
        for record in runs
        if PULL_REQUEST_TAG not in record.dagster_run.tags
        for image in images_of(record, factory.backends.artifacts)
    }
    return [image for image in chosen if image not in being_built]


def _run(instance: dg.DagsterInstance, key: str) -> dg.RunRecord | None:
    return next(iter(instance.get_run_records(dg.RunsFilter(tags={_RUN_KEY_TAG: key}), limit=1)), None)


def _by_image(scans: Mapping[str, ProductionScan], main: MainImages, now: datetime) -> dict[str, list[ProductionScan]]:
    """The images that are to be rebuilt, each with the scans that say so."""
    found: dict[str, list[ProductionScan]] = {}
    for scan in scans.values():
        for name in {rebuild.image for rebuild in scan.rebuilds} & main.loaded:
            if not main.source.catalog.images[name].is_past_end_of_life(now.date()):
                found.setdefault(name, []).append(scan)
    return found


def _fixes(scan: ProductionScan, image: str) -> Iterator[str]:
    for rebuild in scan.rebuilds:
        if rebuild.image == image:
            yield from rebuild.fixes


def _forced(scans: Mapping[str, ProductionScan]) -> set[str]:
    return {rebuild.image for scan in scans.values() for rebuild in scan.rebuilds if rebuild.forced}


def _to_build(chosen: Sequence[str], state: PatchState, main: MainImages, now: datetime) -> Reasons:
    found, _ = main.source.catalog.with_descendants({image: state.images[image].fixes for image in chosen}, now.date())
    return {image: why for image, why in found.items() if image in main.loaded}


def _report(state: PatchState, scans: Mapping[str, ProductionScan], now: datetime, every: timedelta) -> Iterator[str]:
    """The result of a tick, as its skip reason."""
    for image, wanted in state.images.items():
        yield f"{image} {wanted.in_words(now)}: {', '.join(wanted.fixes)}"
    for image, scan in sorted(scans.items()):
        if scan.waits_for:
            yield f"{image}: {scan.remedy}"
    if state.failures:
        yield f"the last scan failed: {state.why}"
    if state.whole:
        again = f"{state.whole + every:%Y-%m-%d %H:%M} UTC"
        yield f"{counted(len(scans), 'image')} in production, scanned again after {again}"
