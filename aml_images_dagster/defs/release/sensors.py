"""Sensors of releases: builds after a release, automatic releases, and releases from other machines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.versions.release_notes import with_notes
from aml_images_dagster.defs.keys import BUILD_JOB, RELEASE_JOB, RELEASED
from aml_images_dagster.defs.main_branch import main_build
from aml_images_dagster.defs.release.released import announce_change
from aml_images_dagster.defs.request import BUILD_TAG, RELEASE_RULE_TAG, TRIGGER_TAG
from aml_images_dagster.defs.ticks import sensor_status, skips_while_unreachable
from aml_images_dagster.release.dependents import dependents
from aml_images_dagster.release.production import window_closed

if TYPE_CHECKING:
    from aml_images_dagster.defs.main_branch import MainBranch
    from aml_images_dagster.defs.run import Factory

_AUTOMATIC_RELEASE = "automatic_release"
_LOOKED_AT = 100
_AFTER_RELEASE = "after_release"
AFTER_RELEASE_TAG = "aml-images/after-release"
"""The build whose release has started a build of what is FROM it."""


def after_release_sensor(factory: Factory, main: MainBranch) -> dg.SensorDefinition:
    """Starts one build per release, or says what a person may build, as the setting `release.after_release` has it."""

    @dg.sensor(
        name=_AFTER_RELEASE,
        description="Builds images that are FROM a released one, or offers to: the setting release.after_release.",
        job_name=BUILD_JOB,
        minimum_interval_seconds=30,
        default_status=sensor_status(factory.settings),
    )
    @skips_while_unreachable
    def after_release(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        artifacts = factory.backends.artifacts
        records = Ledger(artifacts).records()
        last = str(records[-1].number if records else 0)
        if context.cursor is None:  # releases before the first tick are ignored
            return dg.SensorResult(skip_reason="watching from now on", cursor=last)
        releases = [r for r in records if r.number > int(context.cursor) and r.done and r.action == "release"]
        if not releases:
            return dg.SensorResult(skip_reason="no new releases", cursor=last)
        of_main = main.images()
        to_build = {r.number: dependents(r, of_main.source.catalog, artifacts, records) for r in releases}
        names = sorted({image for found in to_build.values() for image in found})
        if not names or factory.settings.release.after_release == "offer":
            said = f"to build: {', '.join(names)}" if names else "no image is FROM the images released last"
            return dg.SensorResult(skip_reason=said, cursor=last)
        # One at a tick, so that the next one knows the release number that this one takes.
        record = next(record for record in releases if to_build[record.number])
        request = main_build(
            factory,
            of_main,
            to_build[record.number],
            context.instance,
            context.log,
            run_key=f"{_AFTER_RELEASE} {record.number}",
            trigger="release",
            tags={AFTER_RELEASE_TAG: record.build},
        )
        return dg.SensorResult(run_requests=[request], cursor=str(record.number))

    return after_release


def automatic_release_sensor(factory: Factory) -> dg.SensorDefinition:
    """Starts one release for each such build. One that is refused shows as a failed run and is not tried again."""

    @dg.sensor(
        name=_AUTOMATIC_RELEASE,
        description=f"Releases every build whose run has the tag {RELEASE_RULE_TAG}: automatic, in release windows.",
        job_name=RELEASE_JOB,
        minimum_interval_seconds=30,
        default_status=sensor_status(factory.settings),
    )
    @skips_while_unreachable
    def automatic_release(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        runs = context.instance.get_runs(
            dg.RunsFilter(tags={RELEASE_RULE_TAG: "automatic"}, statuses=[dg.DagsterRunStatus.SUCCESS]),
            limit=_LOOKED_AT,
        )
        released = Ledger(factory.backends.artifacts).released_builds()
        builds = [run.tags[BUILD_TAG] for run in runs if run.tags.get(BUILD_TAG) not in (None, *released)]
        if not builds:
            return dg.SkipReason("no build waits to be released automatically")
        closed = window_closed(factory.settings, datetime.now(UTC))
        if closed:
            return dg.SkipReason(f"{', '.join(builds)} must wait: {closed}")
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=build,
                    run_config={"ops": {RELEASED: {"config": {"build": build, "who": _AUTOMATIC_RELEASE}}}},
                    tags={TRIGGER_TAG: _AUTOMATIC_RELEASE},
                )
                for build in reversed(builds)
            ]
        )

    return automatic_release


def production_records_sensor(factory: Factory) -> dg.SensorDefinition:
    """Reports every completed record of the ledger once, from the first one on."""

    @dg.sensor(
        name="production_records",
        description="Shows releases, rollbacks and withdrawals that were not done by a run of this instance.",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    @skips_while_unreachable
    def production_records(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        seen = int(context.cursor or 0)
        report = context.instance.report_runless_asset_event
        artifacts = factory.backends.artifacts
        records = with_notes((record for record in Ledger(artifacts).records() if record.number > seen), artifacts)
        shown = [r for r in records if r.done and announce_change(context.instance, r, factory, report)]
        said = "; ".join(f"{record.action} of {record.release_tag} by {record.who}" for record in shown)
        last = records[-1].number if records else seen
        return dg.SensorResult(skip_reason=said or "no changes were made elsewhere", cursor=str(last))

    return production_records
