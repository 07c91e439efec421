"""The files of `schedules/` as Dagster schedules. A wrong file is reported and does not affect the others."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg

from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.defs.keys import BUILD_JOB, UPSTREAM_SENSOR
from aml_images_dagster.defs.main_branch import main_build
from aml_images_dagster.defs.request import RELEASE_BY_TAG, RELEASE_RULE_TAG, SCHEDULE_TAG, WARNING_TAG
from aml_images_dagster.defs.ticks import is_running, schedule_status, sensor_status
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.schedules import FOLDER, Schedule, patches_to_come, read_timetable

if TYPE_CHECKING:
    from datetime import datetime

    from aml_images_dagster.defs.main_branch import MainBranch
    from aml_images_dagster.defs.run import Factory


def schedule_definitions(factory: Factory, main: MainBranch) -> list[dg.ScheduleDefinition]:
    """One schedule for each file that is right."""
    return [_schedule(schedule, factory, main) for schedule in factory.timetable.schedules]


def _schedule(schedule: Schedule, factory: Factory, main: MainBranch) -> dg.ScheduleDefinition:
    file = schedule.file

    @dg.schedule(
        name=schedule.dagster_name,
        job_name=BUILD_JOB,
        cron_schedule=file.cron,
        execution_timezone=file.timezone,
        description=f"{file.description} ({schedule.path})",
        default_status=schedule_status(factory.settings),
        metadata={
            "file": schedule.path,
            "selection": dg.MetadataValue.json(file.selection.model_dump(mode="json", exclude_defaults=True)),
            "force": file.force,
            "release": file.release,
        },
    )
    def scheduled_build(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(ZoneInfo(file.timezone))
        warnings = []
        try:
            of_main = main.images()
        except FactoryError as fault:  # this tick comes once: what was fetched last is better than nothing
            of_main = main.known_images()
            warnings.append(f"built from {of_main.commit[:8]}, the main branch as it was fetched last: {fault.what}")
        images = schedule.images(of_main.source.catalog, tick.date())
        not_loaded = sorted(images.keys() - of_main.loaded - of_main.broken.keys())
        if not_loaded:
            context.log.warning(f"left out, until the code location is reloaded: {', '.join(not_loaded)}")
        images = {image: reasons for image, reasons in images.items() if image in of_main.loaded}
        if not images:
            left_out = "".join(f"; {told}" for told in of_main.left_out)
            return dg.SkipReason(f"{schedule.path} selects no image of the main branch{left_out}")
        tags = {SCHEDULE_TAG: file.name}
        if file.release != "none":
            tags |= {RELEASE_RULE_TAG: file.release, RELEASE_BY_TAG: schedule.release_by(tick).isoformat()}
        patches = patches_to_come(tick) if file.after_patch_tuesday else None
        if patches is not None:
            warnings.append(_before_patches(patches, context.instance, factory))
        if warnings:
            tags[WARNING_TAG] = "; ".join(warnings)
            context.log.warning(tags[WARNING_TAG])
        return main_build(
            factory,
            of_main,
            images,
            context.instance,
            context.log,
            run_key=f"{file.name} {tick.isoformat()}",
            trigger="schedule",
            tags=tags,
            force=file.force,
        )

    return scheduled_build


def _before_patches(patches: datetime, instance: dg.DagsterInstance, factory: Factory) -> str:
    follow_up = (
        f"the sensor {UPSTREAM_SENSOR} builds again when the new bases are there"
        if is_running(instance, UPSTREAM_SENSOR, factory.settings)
        else f"switch on the sensor {UPSTREAM_SENSOR} to have it built again when the new bases are there"
    )
    return f"before Patch Tuesday: this month's Windows updates come {patches:%A %d %B %H:%M %Z}; {follow_up}"


def schedule_files_sensor(factory: Factory) -> dg.SensorDefinition:
    """Shows in the UI what is wrong with the files of `schedules/`: its ticks fail and say what."""
    loaded = factory.timetable
    told = "".join(f" **{finding}**" for finding in loaded.findings)

    @dg.sensor(
        name="schedule_files",
        description=f"Fails when a file of {FOLDER}/ is wrong, and reports when one was added or changed.{told}",
        minimum_interval_seconds=60,
        default_status=sensor_status(factory.settings),
    )
    def schedule_files() -> dg.SkipReason:
        source = factory.source
        tree = source.tree if factory.settings.source_commit else WorkingTree(source.tree.root)
        now = read_timetable(tree, source.catalog)
        errors = [finding for finding in now.findings if finding.severity == "error"]
        if errors:
            raise BadInput(
                "; ".join(map(str, errors)), where=FOLDER, hint="Correct the file; the other schedules keep running."
            )
        if now != loaded:
            return dg.SkipReason("files have changed: reload the code location to apply them")
        return dg.SkipReason(f"{len(now.schedules)} files, nothing wrong")

    return schedule_files
