"""A build from the command line, from what was asked for to the exit code."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console

from aml_images_dagster.builds.janitor import sweep
from aml_images_dagster.cli.build_outcome import conclude, show
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.dagster_run import INVOCATION_TAG, execute
from aml_images_dagster.cli.instance import open_instance
from aml_images_dagster.cli.own_terminal import own_terminal
from aml_images_dagster.cli.progress import Progress
from aml_images_dagster.defs.operations.cleanup import announce
from aml_images_dagster.defs.run_state import InstanceRuns

if TYPE_CHECKING:
    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.cli.dagster_run import BuildRequest
    from aml_images_dagster.settings import Settings


def run_build(settings: Settings, parts: Parts, request: BuildRequest, as_json: bool) -> int:
    """Run the build to its end, show how it goes, and clean it up if it fails.

    Returns:
        The exit code: 0, or 1 when the build failed or was cancelled.
    """
    instance = open_instance(settings)
    # Where no daemon runs, this is what finds the builds whose process was killed.
    announce(instance, sweep(parts, settings, InstanceRuns(instance), datetime.now(UTC)), parts.artifacts)
    invocation = uuid.uuid4().hex
    log = settings.home / "logs" / f"{invocation[:8]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with own_terminal(log) as terminal:
        console = Console(file=terminal, highlight=False, quiet=as_json)
        with Progress(instance, {INVOCATION_TAG: invocation}, request.plan, console):
            run = execute(settings, parts.artifacts, instance, request, invocation)
    if run is None:
        open_console(stderr=True).print("Interrupted before the build had begun: there is nothing to clean up.")
        return 1
    outcome = conclude(instance, run, parts, log)
    show(outcome, as_json)
    return 0 if outcome.succeeded else 1
