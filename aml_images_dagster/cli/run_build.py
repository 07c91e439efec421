"""A build from the command line, from what was asked for to the exit code; a failed one is cleaned up."""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO

import dagster as dg
from rich.markup import escape

from aml_images_dagster.builds.housekeeping.cleanup import cleanup, read_report
from aml_images_dagster.builds.housekeeping.janitor import sweep
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.naming import build_number, release_tag_for
from aml_images_dagster.builds.records import BuildRecord, why_unreleasable
from aml_images_dagster.cli.cleanup import report_table
from aml_images_dagster.cli.console import left_out_in_words, open_console, rows_worth_showing
from aml_images_dagster.cli.dagster_run import INVOCATION_TAG, execute, remembered_interrupt
from aml_images_dagster.cli.instance import open_instance
from aml_images_dagster.cli.options import print_json
from aml_images_dagster.cli.progress import Progress
from aml_images_dagster.cli.status import document, explain_failure, images_table, in_step, unchanged_images
from aml_images_dagster.defs.operations.cleanup import announce, observe_removed
from aml_images_dagster.defs.request import COMMAND_LINE
from aml_images_dagster.defs.run import created_at
from aml_images_dagster.defs.run_state import InstanceRuns, first_error, first_failure
from aml_images_dagster.errors import INTERRUPTED
from aml_images_dagster.instance.compute_logs import FileComputeLogManager
from aml_images_dagster.release.release_plan import hint_at_withdrawn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.housekeeping.cleanup import CleanupReport
    from aml_images_dagster.builds.records import BuildFailure, BuildStatus, EndStatus
    from aml_images_dagster.cli.dagster_run import BuildCommand
    from aml_images_dagster.settings import Settings


def run_build(settings: Settings, backends: Backends, request: BuildCommand, as_json: bool) -> int:
    """Run the build to its end, show how it goes, and clean it up if it fails.

    Returns:
        The exit code: 0; 1 when the build failed or was canceled elsewhere; that of an interrupt when a person
        interrupted it here.
    """
    instance = open_instance(settings)
    # Where no daemon runs, this is what finds the builds whose process was killed.
    runs = InstanceRuns(instance, settings.host_patience_seconds)
    runs.end_dead()
    announce(instance, sweep(backends, settings, runs, datetime.now(UTC)), backends.artifacts)
    invocation = uuid.uuid4().hex
    log = settings.home / "logs" / f"{invocation[:8]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with remembered_interrupt() as interrupt, _terminal_kept(log) as terminal:
        console = open_console(file=terminal, quiet=as_json)
        with Progress(instance, {INVOCATION_TAG: invocation}, request.plan, console):
            run, is_interrupted = execute(settings, backends.artifacts, instance, request, invocation, interrupt)
    if run is not None and isinstance(instance.compute_log_manager, FileComputeLogManager):
        _add_step_logs(instance, run.run_id, log)
    if run is None:
        what = "interrupted before the build started"
        open_console(stderr=True).print(f"{what.capitalize()}: there is nothing to clean up.")
        if as_json:
            print_json({"error": {"what": what, "where": "", "hint": ""}})
        return INTERRUPTED
    outcome = _conclude(instance, run, request, backends, log)
    _show(outcome, as_json)
    if is_interrupted and not outcome.succeeded:
        return INTERRUPTED
    return 0 if outcome.succeeded else 1


def _add_step_logs(instance: dg.DagsterInstance, run_id: str, log: Path) -> None:
    """Add to the log of a command what steps have printed, which is in a file for each of them."""
    manager = instance.compute_log_manager
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED).records
    events = [event for record in records if (event := record.event_log_entry.dagster_event) is not None]
    with log.open("ab") as file:
        for event in events:
            captured = event.logs_captured_data
            printed = manager.get_log_data(manager.build_log_key_for_run(run_id, captured.file_key))
            file.write(f"--- {', '.join(captured.step_keys)}\n".encode())
            file.write((printed.stdout or b"") + (printed.stderr or b""))


@contextmanager
def _terminal_kept(log: Path) -> Iterator[TextIO]:
    """Let everything that is printed go to a file, and give what stays connected to the terminal.

    Step processes inherit the file descriptors 1 and 2, so those are what is turned.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = os.dup(1), os.dup(2)
    with log.open("ab") as file, os.fdopen(os.dup(out), "w", encoding="utf-8") as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)


@dataclass(frozen=True)
class _Outcome:
    """The result of a build.

    Attributes:
        folder: Its artifacts.
        record: `build.json`; None when no step has begun.
        status: How it ended.
        failure: Why it failed; None unless it did.
        error: The same as what is wrong, where and a hint, for programs; None unless it failed.
        report: What was cleaned up just now; None of one that has succeeded.
        log: A file with everything that was printed.
        withdrawn: Which of its images were withdrawn before, and what to do; else empty.
    """

    folder: BuildFolder
    record: BuildRecord | None
    status: BuildStatus
    failure: BuildFailure | None
    error: dict[str, str] | None
    report: CleanupReport | None
    log: Path
    withdrawn: str

    @property
    def succeeded(self) -> bool:
        """Whether it is complete."""
        return self.status == "succeeded"


_STATUSES: dict[dg.DagsterRunStatus, EndStatus | Literal["succeeded"]] = {
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


def _conclude(
    instance: dg.DagsterInstance, run: dg.DagsterRun, request: BuildCommand, backends: Backends, log: Path
) -> _Outcome:
    """Read how a finished run ended, and clean up its build unless it succeeded.

    A build whose first step has not begun is written down here: its number was shown, and people ask for it.
    """
    status: EndStatus | Literal["succeeded"] = _STATUSES.get(run.status, "failed")
    created = created_at(instance, run.run_id)
    build = build_number(run.run_id, created)
    folder = backends.artifacts.build(build)
    if status != "succeeded":
        _write_down(folder, run, created, request)
    failure, error = None, None
    if status == "failed":
        failure = first_failure(instance, run.run_id)
        said = {"what": failure.message if failure else f"build {build} failed", "where": "", "hint": ""}
        error = first_error(instance, run.run_id) or said
    report = None if status == "succeeded" else cleanup(build, backends, status, failure)
    if report is not None:
        observe_removed(instance, [report])
    withdrawn = _withdrawn(folder, backends) if status == "succeeded" else ""
    return _Outcome(folder, folder.read_build(), status, failure, error, report, log, withdrawn)


def _withdrawn(folder: BuildFolder, backends: Backends) -> str:
    """Said once more at the end: that the same image was built again, by force, is known only now."""
    records = Ledger(backends.artifacts).records()
    withdrawn = {change.image for record in records if record.action == "withdrawal" for change in record.changes}
    build = folder.read_build()
    staged = (folder.read_staged(image) for image in (build.images if build else ()) if image in withdrawn)
    return hint_at_withdrawn({each.image: each.digest for each in staged if each}, records)


def _write_down(folder: BuildFolder, run: dg.DagsterRun, created: datetime, request: BuildCommand) -> None:
    """Create `build.json` unless a step has. The cleanup says how the build ended."""
    record = BuildRecord(
        build=folder.build,
        run_id=run.run_id,
        status="running",
        commit=request.plan.commit,
        source=request.source,
        created=created,
        release_tag=release_tag_for(created, request.release_num, request.release_tag),
        images=tuple(sorted(request.plan.by_name)),
        trigger=COMMAND_LINE,
    )
    with suppress(FileExistsError):
        folder.create_build(record)


def _show(outcome: _Outcome, as_json: bool) -> None:
    """Show the result to people or programs."""
    if as_json:
        _show_to_programs(outcome)
    elif outcome.succeeded and outcome.record:
        _show_success(outcome, outcome.record)
    else:
        _show_failure(outcome)


def _show_to_programs(outcome: _Outcome) -> None:
    folder, record, failure = outcome.folder, outcome.record, outcome.failure
    known = document(folder, record) if record else {"build": folder.build, "status": outcome.status}
    print_json(known | {"failure": failure.model_dump(mode="json") if failure else None, "error": outcome.error})


def _show_success(outcome: _Outcome, record: BuildRecord) -> None:
    console = open_console()
    unchanged = unchanged_images(outcome.folder, record)
    images, left_out = rows_worth_showing(record.images, unchanged.__contains__)
    if images:
        console.print(images_table(outcome.folder, record, images))
    if left_out:
        untested = sum(not unchanged[image].scenarios for image in left_out)
        more = left_out_in_words(len(left_out), untested, len(images))
        console.print(f"{more} reused as they are: `aml-images status {record.build}` lists all")
    console.print(f"\n[green]build [bold]{record.build}[/] succeeded[/], release tag {record.release_tag}")
    console.print(f"release.json, import.cfg and drop: {outcome.folder.root}", markup=False)
    if unreleasable := why_unreleasable(record.commit):
        console.print(f"[yellow]{unreleasable}[/]")
    if outcome.withdrawn:
        console.print(outcome.withdrawn, style="yellow", markup=False, soft_wrap=True)


def _show_failure(outcome: _Outcome) -> None:
    build, failure, errors = outcome.folder.build, outcome.failure, open_console(stderr=True)
    if outcome.status == "canceled":
        errors.print(f"[yellow]build [bold]{build}[/] was canceled[/]")
    else:
        errors.print(f"[red]build [bold]{build}[/] failed{in_step(failure)}[/]")
        if failure:
            explain_failure(errors, failure)
        errors.print(f"[dim]full log: {escape(str(outcome.log))}[/]")
    console = open_console()
    story = read_report(outcome.folder) or outcome.report  # hooks may have been here before
    if story and story.rows:
        console.print(report_table(story))
    console.print(_cleaned_up(build, outcome.report))


def _cleaned_up(build: str, report: CleanupReport | None) -> str:
    if report and any(row.outcome == "kept" for row in report.rows):
        return f"[bold yellow]build {build} is kept for inspection[/]; remove it with `aml-images cleanup {build}`"
    if report and report.clean:
        return f"build {build} was cleaned up: nothing is left"
    return (
        f"[bold red]build {build} was not cleaned up completely[/]: the janitor of `scripts/ui` and the next build "
        f"try again; `aml-images cleanup {build}` does so now"
    )
