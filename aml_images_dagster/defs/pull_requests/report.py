"""Reports to the host of pull requests. A report that fails is repeated later; no build waits for it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.versions.difference_markdown import short_sections
from aml_images_dagster.builds.versions.image_difference import summary
from aml_images_dagster.builds.versions.production_difference import ProductionDifference, read_production_difference
from aml_images_dagster.defs.request import RESOURCE
from aml_images_dagster.defs.run_state import first_failure
from aml_images_dagster.errors import FactoryError, Unreachable
from aml_images_dagster.pull_requests.hosts.interface import Status
from aml_images_dagster.pull_requests.report import ChangesReport, FailureReport, ImageReport, Report
from aml_images_dagster.pull_requests.tracking import Pause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import dagster as dg

    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.defs.pull_requests.runs import PullRequestRuns
    from aml_images_dagster.defs.run import Factory
    from aml_images_dagster.pull_requests.hosts.interface import PullRequestHost
    from aml_images_dagster.pull_requests.tracking import Tracked, Tracking

_SECONDS = 1.0


class Reporter:
    """Reports to a host.

    Args:
        host: The host.
        factory: Settings, and the artifacts that reports are made from.
        instance: The runs that reports are about.
        runs: Those of pull requests among them.
    """

    def __init__(
        self, host: PullRequestHost, factory: Factory, instance: dg.DagsterInstance, runs: PullRequestRuns
    ) -> None:
        self._host = host
        self._factory = factory
        self._instance = instance
        self._runs = runs

    def report(self, tracking: Tracking, now: float) -> Iterator[str]:
        """Report what is new, within a time limit; pull requests that are not admitted come last.

        Yields:
            Reports that failed, and that the rest has to wait.
        """
        until = time.monotonic() + _SECONDS
        for number, tracked in tracking.in_order(lambda one: (one.phase == "refused", one.report.until, one.seen)):
            is_due = tracked.superseded or tracked.reported != tracked.to_report
            if not is_due or tracked.report.until > now:
                continue
            if time.monotonic() > until:
                yield "The others wait for the next poll."
                return
            try:
                self._report(number, tracked)
                tracked.report = Pause(until=now)  # not a pause, but its place among the others
            except Exception as error:  # noqa: BLE001 - what a stranger has written must not stop the others
                tracked.report.failed(now)
                why = error if isinstance(error, FactoryError) else repr(error)
                yield f"#{number} could not be reported; it will be tried again: {why}"

    def _report(self, number: int, tracked: Tracked) -> None:
        to_report = tracked.to_report
        for head in tracked.superseded:
            self._report_canceled(number, head, f"superseded by {tracked.head[:8]}")
        tracked.superseded = ()
        if tracked.reported == to_report:
            return
        report = report_of(tracked, self._factory, self._instance)
        self._host.set_status(number, tracked.head, report.status)
        tracked.comment = self._host.write_comment(number, tracked.comment, report.comment)
        tracked.reported = to_report

    def report_closed(self, number: int, tracked: Tracked) -> Iterator[str]:
        """Report that the build of a closed pull request was canceled. Once, because its page shows that it is closed.

        Yields:
            Reports that failed.
        """
        heads = (*tracked.superseded, *([tracked.head] if tracked.is_being_built else []))
        try:
            for head in dict.fromkeys(heads):
                self._report_canceled(number, head, "the pull request was closed")
        except Unreachable as fault:
            yield f"#{number} could not be reported: {fault}"

    def _report_canceled(self, number: int, head: str, why: str) -> None:
        records = self._runs.of(number, head)
        url = run_url(self._factory, records[0].dagster_run) if records else ""
        self._host.set_status(number, head, Status("canceled", why, url))


_TRACEBACK = "Stack Trace:"
_DEFECT = "This is a defect of the factory, not of the pull request; the run has the traceback."


def report_of(tracked: Tracked, factory: Factory, instance: dg.DagsterInstance) -> Report:
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
                return _report_of_run(tracked, record, factory, instance)
            return Report(head, "pending", "the build is about to start", notes=notes)
    return Report(head, "pending", first_line or "waiting to be evaluated", notes=notes)


def _drift(images: Iterable[ImageReport], folder: BuildFolder) -> Iterator[str]:
    """What the notices of images do not name, which stops no build of a pull request."""
    for image in images:
        components = folder.read_components(image.name)
        yield from (f"{image.name}: {change}" for change in (components.drift if components else ()))


def _report_of_run(tracked: Tracked, record: dg.RunRecord, factory: Factory, instance: dg.DagsterInstance) -> Report:
    run = record.dagster_run
    build = build_number(run.run_id, record.create_timestamp)
    folder = factory.backends.artifacts.build(build)
    images = tuple(_image(name, tuple(why), folder, factory) for name, why in reasons_of(run).items())
    count = f"{len(images)} image{'' if len(images) == 1 else 's'}"
    waiting = Report(
        tracked.head,
        "pending",
        f"{count} waiting for a build slot",
        notes=(*tracked.notes, *_drift(images, folder)),
        build=build,
        url=run_url(factory, run),
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
            return replace(waiting, outcome="canceled", summary=f"the build of {count} was canceled")
        case "STARTED" | "STARTING":
            return replace(waiting, summary=f"building {count}")
    return waiting


def run_url(factory: Factory, run: dg.DagsterRun) -> str:
    """Where the UI shows a run."""
    return f"{factory.settings.pull_requests.ui_url.rstrip('/')}/runs/{run.run_id}"


def reasons_of(run: dg.DagsterRun) -> dict[str, list[str]]:
    """Why each image is part of a run, from the configuration with which it was started."""
    resources: Any = run.run_config.get("resources", {})
    reasons: dict[str, list[str]] = resources.get(RESOURCE, {}).get("config", {}).get("reasons", {})
    return reasons


def _image(name: str, reasons: tuple[str, ...], folder: BuildFolder, factory: Factory) -> ImageReport:
    try:
        staged, tested = folder.read_staged(name), folder.read_tested(name)
        last = factory.backends.artifacts.read_last_passed(name)
    except (FactoryError, OSError):  # the report is sent without it
        return ImageReport(name, reasons)
    if staged is None:
        return ImageReport(name, reasons)
    is_reused = staged.reused(folder.build)
    how = f"reused from {staged.built_in}" if is_reused else "built"
    tests = ""
    if tested is not None:
        tests = f", {len(tested.scenarios)} tests passed" if tested.scenarios else ", **not tested**"
        if tested.scenarios and tested.untested:
            tests += f", **not tested on {' and '.join(tested.untested)}**"
    before = last.staged.size_bytes if last is not None else None
    because = () if is_reused else staged.because
    report = ImageReport(name, (*reasons, *because), how + tests, staged.size_bytes, before)
    # The build that has built it has compared it; what production serves may be another since, and is named.
    built_in = factory.backends.artifacts.build(staged.built_in)
    found = read_production_difference(folder, name, staged.digest) or read_production_difference(
        built_in, name, staged.digest
    )
    return replace(report, changes=_changes(found)) if found else report


def _changes(found: ProductionDifference) -> ChangesReport:
    """A staged image against what production serves."""
    if found.difference is None:
        return ChangesReport(found.unknown if found.is_first else f"what changed is not known: {found.unknown}")
    said = f"against {found.difference.older}: {summary(found.difference)}"
    return ChangesReport(said, found.may_break, "\n\n".join(short_sections(found.difference)))
