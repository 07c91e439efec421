"""Release builds whose run says that it is released automatically, as soon as a release may start."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.keys import RELEASE_JOB, RELEASED
from aml_images_dagster.assets.request import BUILD_TAG, TRIGGER_TAG
from aml_images_dagster.automation.default_status import sensor_status
from aml_images_dagster.automation.schedules import RELEASE_RULE_TAG
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.release.production import window_closed

if TYPE_CHECKING:
    from aml_images_dagster.assets.run import Workshop

_LOOKED_AT = 100
_WHO = "automatic_release"


def automatic_release_sensor(workshop: Workshop) -> dg.SensorDefinition:
    """Starts one release for each such build. One that is refused shows as a failed run and is not tried again."""

    @dg.sensor(
        name=_WHO,
        description=f"Releases every build whose run has the tag {RELEASE_RULE_TAG}: automatic, in release windows.",
        job_name=RELEASE_JOB,
        minimum_interval_seconds=30,
        default_status=sensor_status(workshop.settings),
    )
    def automatic_release(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        runs = context.instance.get_runs(
            dg.RunsFilter(tags={RELEASE_RULE_TAG: "automatic"}, statuses=[dg.DagsterRunStatus.SUCCESS]),
            limit=_LOOKED_AT,
        )
        released = Ledger(workshop.parts.artifacts).released_builds()
        builds = [run.tags[BUILD_TAG] for run in runs if run.tags.get(BUILD_TAG) not in (None, *released)]
        if not builds:
            return dg.SkipReason("no build waits to be released automatically")
        closed = window_closed(workshop.settings, datetime.now(UTC))
        if closed:
            return dg.SkipReason(f"{', '.join(builds)} must wait: {closed}")
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=build,
                    run_config={"ops": {RELEASED: {"config": {"build": build, "who": _WHO}}}},
                    tags={TRIGGER_TAG: _WHO},
                )
                for build in reversed(builds)
            ]
        )

    return automatic_release
