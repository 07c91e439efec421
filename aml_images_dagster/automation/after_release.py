"""Build what is FROM a released image, so that a change of a base reaches everything that stands on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.keys import BUILD_JOB
from aml_images_dagster.automation.build_request import main_build
from aml_images_dagster.automation.default_status import sensor_status
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.release.followers import followers

if TYPE_CHECKING:
    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.automation.main_branch import MainBranch

SENSOR = "after_release"
AFTER_RELEASE_TAG = "aml-images/after-release"
"""The build whose release has started a build of what is FROM it."""


def after_release_sensor(workshop: Workshop, main: MainBranch) -> dg.SensorDefinition:
    """Starts one build per release, or says what a person may build, as the setting `release.after_release` has it."""

    @dg.sensor(
        name=SENSOR,
        description="Builds images that are FROM a released one, or offers to: the setting release.after_release.",
        job_name=BUILD_JOB,
        minimum_interval_seconds=30,
        default_status=sensor_status(workshop.settings),
    )
    def after_release(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        artifacts = workshop.parts.artifacts
        records = Ledger(artifacts).records()
        last = str(records[-1].number if records else 0)
        if context.cursor is None:  # what was released before anybody watched is history
            return dg.SensorResult(skip_reason="watching from now on", cursor=last)
        releases = [r for r in records if r.number > int(context.cursor) and r.done and r.action == "release"]
        if not releases:
            return dg.SensorResult(skip_reason="nothing was released since", cursor=last)
        of_main = main.images()
        to_build = {r.number: followers(r, of_main.source.catalogue, artifacts, records) for r in releases}
        names = sorted({image for found in to_build.values() for image in found})
        if not names or workshop.settings.release.after_release == "offer":
            said = f"to build: {', '.join(names)}" if names else "nothing is FROM what was released last"
            return dg.SensorResult(skip_reason=said, cursor=last)
        # One at a tick, so that the next one knows the release number that this one takes.
        record = next(record for record in releases if to_build[record.number])
        request = main_build(
            workshop,
            of_main,
            to_build[record.number],
            context.instance,
            context.log,
            run_key=f"{SENSOR} {record.number}",
            trigger="release",
            tags={AFTER_RELEASE_TAG: record.build},
        )
        return dg.SensorResult(run_requests=[request], cursor=str(record.number))

    return after_release
