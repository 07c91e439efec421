"""What a pull request is told of its build, from what Dagster and the artifacts know of the run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aml_images_dagster.assets.failure import first_failure
from aml_images_dagster.assets.options import RESOURCE
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.pull_requests.report import FailureReport, ImageReport, Report

if TYPE_CHECKING:
    import dagster as dg

    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.pull_requests.tracking import Tracked

_TRACEBACK = "Stack Trace:"
_DEFECT = "This is a defect of the factory, not of the pull request; the run has all of it."


def report_of(tracked: Tracked, workshop: Workshop, instance: dg.DagsterInstance) -> Report:
    """The report on a pull request as it stands."""
    head, note, notes = tracked.head, tracked.note, tracked.notes
    lines = [line.strip() for line in note.split("\n")]
    first_line = lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]  # not the title of a list
    match tracked.phase:
        case "refused":
            return Report(head, "pending", f"not built: {note}")
        case "invalid":
            return Report(head, "failure", f"cannot be built: {first_line}", details=note, notes=notes)
        case "nothing":
            return Report(head, "success", f"nothing to build: {note}", notes=notes)
        case "requested":
            record = instance.get_run_record_by_id(tracked.run) if tracked.run else None
            if record is not None:
                return _report_of_run(tracked, record, workshop, instance)
            return Report(head, "pending", "the build is about to start", notes=notes)
    return Report(head, "pending", first_line or "waiting to be looked at", notes=notes)


def _report_of_run(tracked: Tracked, record: dg.RunRecord, workshop: Workshop, instance: dg.DagsterInstance) -> Report:
    run = record.dagster_run
    build = build_number(run.run_id, record.create_timestamp)
    folder = workshop.parts.artifacts.build(build)
    images = tuple(_image(name, tuple(why), folder, workshop) for name, why in reasons_of(run).items())
    count = f"{len(images)} image{'' if len(images) == 1 else 's'}"
    waiting = Report(
        tracked.head,
        "pending",
        f"{count} waiting for a place to be built",
        notes=tracked.notes,
        build=build,
        url=run_url(workshop, run),
        images=images,
    )
    match tracked.run_status:
        case "SUCCESS":
            return replace(waiting, outcome="success", summary=f"{count} built and tested")
        case "FAILURE":
            failed = first_failure(instance, run.run_id)
            if failed is None:
                return replace(waiting, outcome="failure", summary=f"the build of {count} failed")
            step = failed.step or "the run"
            is_defect = _TRACEBACK in failed.message
            failure = FailureReport(step, _DEFECT if is_defect else failed.message, failed.log)
            return replace(waiting, outcome="failure", summary=f"{step} failed", failure=failure)
        case "CANCELED" | "CANCELING":
            return replace(waiting, outcome="cancelled", summary=f"the build of {count} was cancelled")
        case "STARTED" | "STARTING":
            return replace(waiting, summary=f"building {count}")
    return waiting


def run_url(workshop: Workshop, run: dg.DagsterRun) -> str:
    """Where the UI shows a run."""
    return f"{workshop.settings.pull_requests.ui_url.rstrip('/')}/runs/{run.run_id}"


def reasons_of(run: dg.DagsterRun) -> dict[str, list[str]]:
    """Why each image is part of a run, from the configuration with which it was started."""
    resources: Any = run.run_config.get("resources", {})
    reasons: dict[str, list[str]] = resources.get(RESOURCE, {}).get("config", {}).get("reasons", {})
    return reasons


def _image(name: str, reasons: tuple[str, ...], folder: BuildFolder, workshop: Workshop) -> ImageReport:
    try:
        staged, tested = folder.read_staged(name), folder.read_tested(name)
        last = workshop.parts.artifacts.read_last_passed(name)
    except (FactoryError, OSError):  # the report is told without
        return ImageReport(name, reasons)
    if staged is None:
        return ImageReport(name, reasons)
    how = f"reused from {staged.built_in}" if staged.reused(folder.build) else "built"
    tests = ""
    if tested is not None:
        tests = f", {len(tested.scenarios)} tests passed" if tested.scenarios else ", **not tested**"
    before = last.staged.size_bytes if last is not None else None
    return ImageReport(name, reasons, how + tests, staged.size_bytes, before)
