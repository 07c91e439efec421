"""A step that fails, on the page of its asset: why, the end of its log, and what became of each scenario."""

from collections.abc import Iterator, Sequence

import dagster as dg

from aml_images_dagster.builds.records import JobRecord, on_platform
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.defs.images.checks import check_name
from aml_images_dagster.defs.keys import image_of
from aml_images_dagster.errors import BuildFailed, BuildStopped, FactoryError
from aml_images_dagster.text import code_block

StepEvent = dg.MaterializeResult[None] | dg.Output[None] | dg.AssetObservation | dg.AssetCheckEvaluation
"""What a step of an image yields."""

_NOT_PASSED = ("failed", "timed out")


def failure_events(
    context: dg.AssetExecutionContext, session: BuildSession, key: dg.AssetKey, error: FactoryError
) -> Iterator[dg.AssetObservation | dg.AssetCheckEvaluation]:
    """What the page of an asset shows when its step fails: else it shows only the last build that has succeeded.

    A step that was stopped because another one has failed shows nothing.
    """
    if isinstance(error, BuildStopped):
        return
    image, stage = image_of(key) or ("", "")
    jobs = _last_jobs(session, image) if stage == "tested" else []
    yield dg.AssetObservation(key, description=error.what, metadata=_metadata(session, error, jobs))
    yield from _evaluations(context, key, error, jobs)


def _last_jobs(session: BuildSession, image: str) -> list[JobRecord]:
    """The last job of each scenario of an image, on each platform."""
    return [*{(job.platform, job.scenario): job for job in session.folder.jobs() if job.image == image}.values()]


def _metadata(session: BuildSession, error: FactoryError, jobs: Sequence[JobRecord]) -> dict[str, dg.MetadataValue]:
    shown: dict[str, dg.MetadataValue] = {
        "outcome": dg.MetadataValue.text("failed"),
        "reason": dg.MetadataValue.text(str(error)),
        "build": dg.MetadataValue.text(session.number),
    }
    if jobs:
        rows = [
            dg.TableRecord(
                {
                    "scenario": on_platform(job.scenario, job.platform),
                    "status": job.status,
                    "seconds": _seconds(job),
                    "job": job.job,
                }
            )
            for job in jobs
        ]
        columns = [dg.TableColumn(name, "string") for name in ("scenario", "status")]
        columns += [dg.TableColumn("seconds", "float"), dg.TableColumn("job", "string")]
        shown["scenarios"] = dg.MetadataValue.table(rows, schema=dg.TableSchema(columns))
    if isinstance(error, BuildFailed) and error.log:
        shown["log"] = dg.MetadataValue.md(code_block(error.log))
    return shown


def _evaluations(
    context: dg.AssetExecutionContext, key: dg.AssetKey, error: FactoryError, jobs: Sequence[JobRecord]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Scenarios that have come to an end: those that were canceled with the one that has failed have no result."""
    known = {check.name for check in context.selected_asset_check_keys}
    by_name: dict[str, list[JobRecord]] = {}
    for job in jobs:
        by_name.setdefault(check_name(job.scenario), []).append(job)
    for name, of_it in by_name.items():
        failed = [job for job in of_it if job.status in _NOT_PASSED]
        if name in known and (failed or all(job.status == "passed" for job in of_it)):
            job = (failed or of_it)[0]
            yield dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=name,
                passed=not failed,
                description=error.what if failed else f"passed in {_seconds(job):.1f} s",
                metadata={"seconds": _seconds(job), "job": job.job, "tested_in": job.build},
            )


def _seconds(job: JobRecord) -> float:
    return round((job.finished - job.submitted).total_seconds(), 3) if job.finished else 0.0
