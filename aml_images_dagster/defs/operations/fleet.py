"""The asset `operations/fleet`: its table shows every image in production, what needs a person first."""

import time
from datetime import UTC, datetime

import dagster as dg

from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.defs.keys import FLEET, FLEET_JOB, OPERATIONS_GROUP, SCAN_JOB
from aml_images_dagster.defs.operations.jobs import AssetJob
from aml_images_dagster.defs.run import Factory, explained
from aml_images_dagster.defs.run_state import InstanceRuns
from aml_images_dagster.defs.ticks import skips_while_unreachable
from aml_images_dagster.fleet.collection import collect_fleet
from aml_images_dagster.fleet.fleet import NAMES, Fleet, Row
from aml_images_dagster.fleet.page import (
    age_in_words,
    base_in_words,
    found_in_words,
    left_in_words,
    signed_in_words,
    store_page,
    tests_in_words,
)
from aml_images_dagster.text import size_in_words

SENSOR = "fleet"
_TRY_AGAIN_SECONDS = 3600
_MOST_ROWS = 200
"""Images in the table of the UI, which shows all rows of a table at once."""


def fleet_asset() -> dg.AssetsDefinition:
    """Materializing it collects what is known of every image, and writes the page into the artifacts."""

    @dg.asset(
        key=FLEET,
        group_name=OPERATIONS_GROUP,
        description="Every image in production, what needs a person first. Materialize to collect it now.",
        kinds={"docker"},
    )
    def fleet(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with explained():
            found = collect_fleet(factory.source, factory.backends, factory.settings, datetime.now(UTC))
            page = store_page(found, factory.backends.artifacts)
        context.log.info(found.summary)
        return dg.MaterializeResult(
            metadata={"summary": found.summary, "page": dg.MetadataValue.path(str(page)), "images": _table(found)}
        )

    return fleet


def fleet_sensor(factory: Factory, job: AssetJob) -> dg.SensorDefinition:
    """The sensor that has it collected again: after a change or a scan of production, and once a day."""

    @dg.sensor(
        name=SENSOR,
        description="Collects the fleet again after a change or a scan of production, and once a day.",
        job=job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    @skips_while_unreachable
    def fleet(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        records = Ledger(factory.backends.artifacts).records()
        if not records:
            return dg.SkipReason("nothing was released yet")
        scanned = dg.RunsFilter(job_name=SCAN_JOB, statuses=[dg.DagsterRunStatus.SUCCESS])
        scans = context.instance.get_run_ids(scanned, limit=1)
        state = " ".join((str(records[-1].number), *scans, f"{datetime.now(UTC):%Y-%m-%d}"))
        if state == context.cursor and not _failed_an_hour_ago(context.instance):
            return dg.SkipReason("production is what it was")
        if InstanceRuns(context.instance, factory.settings.host_patience_seconds).is_under_way(FLEET_JOB):
            return dg.SkipReason("it is being collected")
        return dg.SensorResult([dg.RunRequest()], cursor=state)

    return fleet


def _failed_an_hour_ago(instance: dg.DagsterInstance) -> bool:
    """Whether the last run has failed, long enough ago to try again."""
    last = next(iter(instance.get_run_records(dg.RunsFilter(job_name=FLEET_JOB), limit=1)), None)
    if last is None or last.dagster_run.status not in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
        return False
    return (last.end_time or 0) < time.time() - _TRY_AGAIN_SECONDS


def _table(fleet: Fleet) -> dg.TableMetadataValue:
    rows = [dg.TableRecord(_cells(row)) for row in fleet.rows[:_MOST_ROWS]]
    if len(fleet.rows) > _MOST_ROWS:
        more = f"and {len(fleet.rows) - _MOST_ROWS} more: see the page"
        rows.append(dg.TableRecord({**dict.fromkeys(rows[0].data, ""), "image": more}))
    names = rows[0].data if rows else ("image",)
    return dg.MetadataValue.table(rows, schema=dg.TableSchema([dg.TableColumn(name, "string") for name in names]))


def _cells(row: Row) -> dict[str, str | int | float | bool | None]:
    image, served, build = row.facts, row.facts.served, row.facts.last_build
    return {
        "image": image.image,
        "status": NAMES[row.status],
        "concerns": ", ".join(concern.text for concern in row.concerns),
        "in production": served.tag or served.digest[:19] if served else image.unknown,
        "since": f"{served.since:%Y-%m-%d}" if served and served.since else "",
        "age": age_in_words(row),
        "left": left_in_words(row) if served else "",
        "findings": found_in_words(row) if served else "",
        "base": base_in_words(row),
        "last build": f"{build.build} {build.ending}" if build else "",
        "tests": tests_in_words(row),
        "size": size_in_words(served.sizes[-1]) if served and served.sizes else "",
        "owner": ", ".join(image.owners),
        "end of life": str(image.eol or ""),
        "signed": signed_in_words(row),
    }
