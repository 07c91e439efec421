"""A build from the command line, from what was asked for to the exit code."""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

import dagster as dg

from aml_images_dagster.builds.janitor import sweep
from aml_images_dagster.cli.build_outcome import conclude, show
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.dagster_run import INVOCATION_TAG, execute
from aml_images_dagster.cli.instance import open_instance
from aml_images_dagster.cli.interrupt import remembered_interrupt
from aml_images_dagster.cli.options import print_json
from aml_images_dagster.cli.progress import Progress
from aml_images_dagster.defs.operations.cleanup import announce
from aml_images_dagster.defs.run_state import InstanceRuns
from aml_images_dagster.errors import INTERRUPTED
from aml_images_dagster.instance.compute_logs import FileComputeLogManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aml_images_dagster.builds.backends import Backends
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
    outcome = conclude(instance, run, request, backends, log)
    show(outcome, as_json)
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
