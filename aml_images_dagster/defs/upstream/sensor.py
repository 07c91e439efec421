"""The sensor that builds images of the main branch when their external base changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import ValidationError

from aml_images_dagster.catalog.catalog import Reasons
from aml_images_dagster.catalog.reference import short_digest
from aml_images_dagster.defs.keys import BUILD_JOB, REBUILT, UPSTREAM_SENSOR, base_key
from aml_images_dagster.defs.main_branch import main_build
from aml_images_dagster.defs.ticks import sensor_status, skips_while_unreachable
from aml_images_dagster.defs.upstream.bases import RESUME
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.resolution import ResolvedBase
from aml_images_dagster.upstream import (
    Outcome,
    UpstreamState,
    WatchedBase,
    base_name,
    external_bases,
    is_fixed,
    next_build,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.defs.main_branch import MainBranch, MainImages
    from aml_images_dagster.defs.run import Factory
    from aml_images_dagster.settings.settings import UpstreamSettings

_RUN_KEY_TAG = "dagster/run_key"
"""By which Dagster itself finds the run of a request."""
BASES_TAG = "aml-images/bases"
"""The bases whose change has started a build."""


def upstream_sensor(factory: Factory, main: MainBranch) -> dg.SensorDefinition:
    """The sensor that asks registries for the digests of all external bases."""
    settings = factory.settings.upstream

    @dg.sensor(
        name=UPSTREAM_SENSOR,
        job_name=BUILD_JOB,
        description="Builds images FROM an external base, and everything FROM those, when the base's digest changes.",
        minimum_interval_seconds=settings.interval_seconds,
        default_status=sensor_status(factory.settings),
    )
    @skips_while_unreachable
    def upstream_bases(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = datetime.now(UTC)
        of_main = main.images()
        standing = _standing(of_main, now)
        answers = factory.backends.resolver.observe(standing)
        served = {name: answer.digest for name, answer in answers.items() if isinstance(answer, ResolvedBase)}
        remembered = _read(context.cursor)
        before = remembered.only(standing)
        looked_at = _looked_at(before, served, context.instance, now)
        artifacts = factory.backends.artifacts
        watch = before.with_bases(
            {name: base.used_by(standing[name], _built_on(name, artifacts), now) for name, base in looked_at.items()}
        )
        chosen = next_build(watch, settings, now)
        requests = []
        if chosen:
            key = f"{UPSTREAM_SENSOR} {now.isoformat()}"
            requests.append(
                main_build(
                    factory,
                    of_main,
                    _to_build(chosen, watch, standing, of_main, now),
                    context.instance,
                    context.log,
                    run_key=key,
                    trigger="upstream bases",
                    tags={BASES_TAG: ", ".join(chosen)},
                )
            )
            watch = watch.with_bases({name: watch.bases[name].started(key) for name in chosen})
        told = "; ".join([*_report(watch, answers, settings, now), *of_main.left_out]) or "there are no external bases"
        context.log.info(told)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else told,
            # What nothing is built on for a while, as when a Dockerfile is broken, is gone on with when it is back.
            cursor=remembered.with_bases(watch.bases).model_dump_json(),
            asset_events=[*_observations(before, watch), *_checks(before, watch, settings, now)],
        )

    return upstream_bases


def _standing(main: MainImages, now: datetime) -> dict[str, tuple[str, ...]]:
    """The bases that can change, with the images to build when they do."""
    images = (main.source.catalog.images[image] for image in sorted(main.loaded))
    living = [image for image in images if not image.is_past_end_of_life(now.date())]
    return {name: ids for name, ids in external_bases(living).items() if not is_fixed(name)}


def _read(cursor: str | None) -> UpstreamState:
    try:
        return UpstreamState.model_validate_json(cursor) if cursor else UpstreamState()
    except ValidationError:
        raise BadInput(
            "the cursor is not one of this sensor",
            where=UPSTREAM_SENSOR,
            hint="Clear it in the UI: the next tick starts from what is served then.",
        ) from None


def _looked_at(
    watch: UpstreamState, served: Mapping[str, str], instance: dg.DagsterInstance, now: datetime
) -> dict[str, WatchedBase]:
    """Every base after its registry, its build and observations by a person were evaluated."""
    found = {}
    for name, digest in served.items():
        found[name] = watch.bases.get(name) or WatchedBase(settled=digest, served=digest)
    for name in watch.bases.keys() | found.keys():
        base = found.get(name, watch.bases.get(name))
        assert base is not None  # noqa: S101 - it is in one of the two
        if base.build:
            base = base.after(_outcome(instance, base.build), now)
        if name in served:
            base = base.seen(served[name], now)
        if base.failed is not None and _is_resumed(instance, name, base.failed):
            base = base.resumed()
        found[name] = base
    return found


def _built_on(base: str, artifacts: Artifacts) -> Callable[[str], str]:
    """Looks up on which digest of a base an image was built last."""

    def digest(image: str) -> str:
        passed = artifacts.read_last_passed(image)
        used = passed.staged.bases if passed else ()
        return next((each.digest for each in used if base_name(each.reference) == base), "")

    return digest


def _outcome(instance: dg.DagsterInstance, run_key: str) -> Outcome:
    runs = instance.get_runs(dg.RunsFilter(tags={_RUN_KEY_TAG: run_key}), limit=1)
    if runs and not runs[0].is_finished:
        return "running"
    return "succeeded" if runs and runs[0].is_success else "failed"


def _is_resumed(instance: dg.DagsterInstance, base: str, failed: datetime) -> bool:
    asked = dg.AssetRecordsFilter(asset_key=base_key(base), after_timestamp=failed.timestamp())
    records = instance.fetch_observations(asked, limit=20).records
    return any(record.asset_observation and RESUME in record.asset_observation.metadata for record in records)


def _to_build(
    chosen: Sequence[str], watch: UpstreamState, standing: Mapping[str, Sequence[str]], main: MainImages, now: datetime
) -> Reasons:
    reasons: dict[str, list[str]] = {}
    for name in chosen:
        base = watch.bases[name]
        for image in standing[name]:
            reasons.setdefault(image, []).append(
                f"base {name} is now {short_digest(base.served)}, it was {short_digest(base.settled)}"
            )
    found, _ = main.source.catalog.with_descendants(reasons, now.date())
    return {image: why for image, why in found.items() if image in main.loaded}


def _observations(before: UpstreamState, after: UpstreamState) -> Iterator[dg.AssetObservation]:
    for name, base in after.bases.items():
        old = before.bases.get(name)
        if old is None or old.served != base.served:
            yield dg.AssetObservation(
                base_key(name),
                metadata={"digest": base.served, "before": old.served if old else ""},
                tags={"dagster/data_version": base.served},
            )


def _checks(
    before: UpstreamState, after: UpstreamState, settings: UpstreamSettings, now: datetime
) -> Iterator[dg.AssetCheckEvaluation]:
    for name, base in after.bases.items():
        old = before.bases.get(name)
        if old is None or old.failures != base.failures:
            paused = base.phase(settings, now) == "paused"
            yield dg.AssetCheckEvaluation(
                asset_key=base_key(name),
                check_name=REBUILT,
                passed=not base.failures,
                severity=dg.AssetCheckSeverity.ERROR if paused else dg.AssetCheckSeverity.WARN,
                description=_state(base, settings, now),
            )


def _report(
    watch: UpstreamState, answers: Mapping[str, ResolvedBase | BadInput], settings: UpstreamSettings, now: datetime
) -> Iterator[str]:
    """The result of a tick for each base, as its skip reason."""
    current = 0
    for name, base in sorted(watch.bases.items()):
        state = _state(base, settings, now)
        current += base.phase(settings, now) == "current"
        if base.phase(settings, now) != "current":
            yield f"{name}: {state}"
    for answer in answers.values():
        if isinstance(answer, BadInput):
            yield f"{answer.where}: {answer.what}"
    if current:
        yield f"{current} of {len(answers)} bases have not changed"


def _state(base: WatchedBase, settings: UpstreamSettings, now: datetime) -> str:
    match base.phase(settings, now):
        case "paused":
            return f"paused after {base.failures} failed builds; observe its asset to try again"
        case "backing off":
            retry = base.retry_at(settings)
            return f"{base.failures} failed builds; tried again after {retry:%Y-%m-%d %H:%M} UTC"
        case "building":
            return f"build for {short_digest(base.building)} is running"
        case "gathering":
            return f"changed to {short_digest(base.served)}; waits for others to change"
        case "due":
            return f"changed to {short_digest(base.served)}; waits for the build that runs"
        case "current":
            return f"{short_digest(base.served)}, nothing to do"
