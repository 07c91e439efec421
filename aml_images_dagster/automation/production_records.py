"""Show in the UI what was done to production elsewhere: at the command line, or on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.released import announce_change
from aml_images_dagster.builds.ledger import Ledger

if TYPE_CHECKING:
    from aml_images_dagster.assets.run import Workshop


def production_records_sensor(workshop: Workshop) -> dg.SensorDefinition:
    """Reports every completed record of the ledger once, from the first one on."""

    @dg.sensor(
        name="production_records",
        description="Shows releases, roll-backs and withdrawals that were not done by a run of this instance.",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def production_records(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        seen = int(context.cursor or 0)
        report = context.instance.report_runless_asset_event
        records = [record for record in Ledger(workshop.parts.artifacts).records() if record.number > seen]
        shown = [r for r in records if r.done and announce_change(context.instance, r, workshop, report)]
        said = "; ".join(f"{record.action} of {record.release_tag} by {record.who}" for record in shown)
        last = records[-1].number if records else seen
        return dg.SensorResult(skip_reason=said or "nothing was done elsewhere", cursor=str(last))

    return production_records
