"""Running the Dagster job from the command line, on the instance that the UI shows."""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

import dagster as dg
from rich.console import Console
from rich.markup import escape

from aml_images_dagster.assets.cleanup import announce
from aml_images_dagster.assets.failure import first_failure
from aml_images_dagster.assets.keys import BUILD_JOB
from aml_images_dagster.assets.request import COMMAND_LINE, COMMIT_TAG, TRIGGER_TAG, build_config, build_keys
from aml_images_dagster.assets.run_state import PROCESS_TAG, InstanceRuns
from aml_images_dagster.builds.cleanup import CleanupReport, cleanup, read_report
from aml_images_dagster.builds.janitor import sweep
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.process import this_process
from aml_images_dagster.catalog import git
from aml_images_dagster.cli.cleanup import report_table
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.instance import open_instance
from aml_images_dagster.cli.options import print_json
from aml_images_dagster.cli.progress import Progress
from aml_images_dagster.cli.status import document, explain_failure, find_build, images_table, in_step
from aml_images_dagster.settings import ENV_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.builds.selection import Selection
    from aml_images_dagster.settings import Settings

INVOCATION_TAG = "aml-images/invocation"


@dataclass(frozen=True)
class BuildRequest:
    """What the command line asks for.

    Attributes:
        selection: Images and the reasons of each.
        commit: Build from this commit; empty builds the working tree.
        release_num: See `release_tag_for`.
        release_tag: See `release_tag_for`.
        force: Build and test anew even what has passed already.
        keep_failed: If it fails, keep its images and containers for a while.
    """

    selection: Selection
    commit: str
    release_num: int | None
    release_tag: str | None
    force: bool
    keep_failed: bool


def run_build(settings: Settings, parts: Parts, request: BuildRequest, as_json: bool) -> int:
    """Run the build to its end, show how it goes, and clean it up if it fails.

    Returns:
        The exit code: 0, or 1 when the build failed or was cancelled.
    """
    instance = open_instance(settings)
    # Where no daemon runs, this is what finds the builds whose process was killed.
    reports = sweep(parts, settings, InstanceRuns(instance), datetime.now(UTC))
    announce(instance, reports, parts.artifacts)
    invocation = uuid.uuid4().hex
    log = settings.home / "logs" / f"{invocation[:8]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with _own_terminal(log) as terminal:
        console = Console(file=terminal, highlight=False, quiet=as_json)
        with Progress(instance, {INVOCATION_TAG: invocation}, list(request.selection), console):
            run = _execute(settings, instance, request, invocation)
    if run is None:
        open_console(stderr=True).print("Interrupted before the build had begun: there is nothing to clean up.")
        return 1
    build = build_number(run.run_id, _created(instance, run.run_id))
    succeeded = run.status is dg.DagsterRunStatus.SUCCESS
    canceled = run.status is dg.DagsterRunStatus.CANCELED
    failure = None if succeeded or canceled else first_failure(instance, run.run_id)
    report = None
    if not succeeded:
        report = cleanup(build, parts, "canceled" if canceled else "failed", failure)
    folder, record = find_build(settings, build) if parts.artifacts.build(build).read_build() else (None, None)
    if as_json:
        result = (
            document(folder, record)
            if folder and record
            else {"build": build, "status": "canceled" if canceled else "failed"}
        )
        print_json(result | {"error": failure.model_dump(mode="json") if failure else None})
        return 0 if succeeded else 1
    console = open_console()
    if succeeded and folder and record:
        console.print(images_table(folder, record))
        console.print(f"\n[green]build [bold]{build}[/] succeeded[/], release tag {record.release_tag}")
        console.print(f"release.json, import.cfg and drop: {folder.root}", markup=False, soft_wrap=True)
        if record.commit.endswith(git.DIRTY):
            console.print("[yellow]it is of changes that no commit has: it cannot be released[/]")
        return 0
    if canceled:
        open_console(stderr=True).print(f"[yellow]build [bold]{build}[/] was cancelled[/]")
    else:
        errors = open_console(stderr=True)
        errors.print(f"[red]build [bold]{build}[/] failed{in_step(failure)}[/]")
        if failure:
            explain_failure(errors, failure)
        errors.print(f"[dim]everything that was printed: {escape(str(log))}[/]", soft_wrap=True)
    story = read_report(parts.artifacts.build(build)) or report  # hooks may have been here before
    if story and story.rows:
        console.print(report_table(story))
    console.print(_cleaned_up(build, report))
    return 1


def _cleaned_up(build: str, report: CleanupReport | None) -> str:
    if report and any(row.outcome == "kept" for row in report.rows):
        return f"[bold yellow]build {build} is KEPT to look at[/]; end it with `aml-images cleanup {build}`"
    if report and report.clean:
        return f"build {build} was cleaned up: nothing of it is left"
    return (
        f"[bold red]build {build} could not be cleaned up as a whole[/]: the janitor of `scripts/ui` and the next "
        f"build try again, or you with `aml-images cleanup {build}`"
    )


def _execute(
    settings: Settings, instance: dg.DagsterInstance, request: BuildRequest, invocation: str
) -> dg.DagsterRun | None:
    # The code location and every step process read their settings from the environment.
    os.environ[f"{ENV_PREFIX}REPO"] = str(settings.repo)
    os.environ[f"{ENV_PREFIX}HOME"] = str(settings.home)
    os.environ[f"{ENV_PREFIX}DOCKER_FILES_PATH"] = settings.docker_files_path
    os.environ[f"{ENV_PREFIX}PUBLISHED_AS"] = ";".join(settings.published_as)
    os.environ[f"{ENV_PREFIX}SOURCE_COMMIT"] = request.commit
    from aml_images_dagster.definitions import build_job

    options = {
        "release_num": request.release_num,
        "release_tag": request.release_tag,
        "source_commit": request.commit,
        "force": request.force,
        "keep_failed": request.keep_failed,
        "reasons": {image: list(reasons) for image, reasons in request.selection.items()},
    }
    tags = {INVOCATION_TAG: invocation, PROCESS_TAG: this_process(), TRIGGER_TAG: COMMAND_LINE}
    if request.commit:
        tags[COMMIT_TAG] = request.commit
    with suppress(KeyboardInterrupt):  # before Dagster had begun
        dg.execute_job(
            dg.reconstructable(build_job),
            instance=instance,
            asset_selection=build_keys(request.selection),
            run_config=build_config(**options),
            tags=tags,
        )
    runs = instance.get_runs(dg.RunsFilter(job_name=BUILD_JOB, tags={INVOCATION_TAG: invocation}), limit=1)
    run = next(iter(runs), None)
    if run is not None and _was_interrupted(instance, run.run_id):
        # Dagster takes an interrupt that no UI has asked for as a failure; the person at the terminal has asked for it.
        instance.report_run_canceled(run, message="Interrupted at the command line.")
        return instance.get_run_by_id(run.run_id)
    return run


def _was_interrupted(instance: dg.DagsterInstance, run_id: str) -> bool:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    events = (record.event_log_entry.dagster_event for record in records)
    errors = (event.job_failure_data.error for event in events if event is not None)
    return any(error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__ for error in errors)


def _created(instance: dg.DagsterInstance, run_id: str) -> datetime:
    record = instance.get_run_record_by_id(run_id)
    assert record is not None  # noqa: S101 - it has just been run
    return record.create_timestamp


@contextmanager
def _own_terminal(log: Path) -> Iterator[TextIO]:
    """Keep the terminal for ourselves: Dagster and the step processes write to a log file.

    They write to the file descriptors 1 and 2, which child processes inherit, so those are what is turned.
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
