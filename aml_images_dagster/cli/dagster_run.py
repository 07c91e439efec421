"""A build as a run of Dagster in this process.

An interrupt is remembered, whoever takes the exception for their own.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from aml_images_dagster import fork_server
from aml_images_dagster.builds.process import this_process
from aml_images_dagster.cli.instance import database_away
from aml_images_dagster.defs.keys import BUILD_JOB, LOCATION
from aml_images_dagster.defs.pinned_catalog import PinnedCatalog
from aml_images_dagster.defs.request import (
    COMMAND_LINE,
    COMMIT_TAG,
    IMAGES_TAG,
    TRIGGER_TAG,
    WHO_TAG,
    build_config,
    images_tag,
    plan_keys,
)
from aml_images_dagster.defs.run_state import HIDDEN, PROCESS_TAG
from aml_images_dagster.instance.heartbeat import beat
from aml_images_dagster.release.actor import actor
from aml_images_dagster.settings import ENV_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import FrameType

    from dagster._core.definitions.reconstruct import ReconstructableJob

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.settings import Settings


@dataclass
class Interrupt:
    """Whether a person has interrupted the command.

    Attributes:
        seen: Whether the signal has come.
    """

    seen: bool = False

    def check(self) -> None:
        """Stop here if the signal has come.

        Raises:
            KeyboardInterrupt: It has, also if that was raised before.
        """
        if self.seen:
            raise KeyboardInterrupt


@contextmanager
def remembered_interrupt() -> Iterator[Interrupt]:
    """Note SIGINT as well as raise it: Python drops what is raised in a hook of a fork or in a finalizer."""
    interrupt = Interrupt()

    def note(_number: int, _frame: FrameType | None) -> None:
        interrupt.seen = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def execute_located_job(
    job: ReconstructableJob,
    instance: dg.DagsterInstance,
    assets: Iterable[dg.AssetKey],
    run_config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> None:
    """Run some assets of a job to their end; how that went is in the run.

    Args:
        job: A job of the code location.
        instance: Where the run is recorded.
        assets: Those to materialize.
        run_config: The run's configuration.
        tags: The run's tags, beside those of the job.
    """
    definition = job.get_definition()
    # By its name alone, as workspace.yaml has it: how the code is loaded is not the run's concern.
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), SINGLETON_REPOSITORY_NAME)
    run = instance.create_run_for_job(
        job_def=definition,
        run_config=run_config,
        tags={**definition.run_tags, **tags},
        asset_selection=frozenset(assets),
        job_code_origin=job.get_python_origin(),
        remote_job_origin=repository.get_job_origin(definition.name),
    )
    beat(instance, run.run_id)  # this process may end before the executor begins to
    execute_run(job, run, instance)


_INTERRUPTS = (dg.DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__)
"""What Dagster takes for a failure; the second before it has begun to wait for interrupts."""

INVOCATION_TAG = f"{HIDDEN}/invocation"
"""By which the run is found that a command has started, from the moment on that there is one."""


@dataclass(frozen=True)
class BuildCommand:
    """What the command line asks for.

    Attributes:
        plan: What is done with each image.
        commit: Build from this commit; empty builds the working tree.
        source: URL or path of the repository.
        release_num: Number of the release on its day; None with `release_tag`.
        release_tag: Replaces the whole release tag.
        force: Build and test images again that already passed.
        keep_failed: If it fails, keep its images and containers for a while.
    """

    plan: Plan
    commit: str
    source: str
    release_num: int | None
    release_tag: str | None
    force: bool
    keep_failed: bool


def execute(
    settings: Settings,
    artifacts: Artifacts,
    instance: dg.DagsterInstance,
    request: BuildCommand,
    invocation: str,
    interrupt: Interrupt,
) -> tuple[dg.DagsterRun | None, bool]:
    """Run a build to its end.

    Args:
        settings: All settings.
        artifacts: Where the plan is kept for the steps.
        instance: Where the run is recorded.
        request: What to build.
        invocation: Value of `INVOCATION_TAG`.
        interrupt: Looked at before the run starts; from then on Dagster waits for interrupts.

    Returns:
        The run, None when there is none yet; and whether a person has interrupted it.
    """
    is_interrupted, away = False, None
    try:
        _execute(settings, artifacts, instance, request, invocation, interrupt)
    except KeyboardInterrupt:
        is_interrupted = True
    except Exception as error:
        away = database_away(error)
        if away is None:
            raise
    runs = instance.get_runs(dg.RunsFilter(job_name=BUILD_JOB, tags={INVOCATION_TAG: invocation}), limit=1)
    run = next(iter(runs), None)
    if run is None:
        return None, is_interrupted
    if away is not None and not run.is_finished:  # it answers again
        instance.report_run_failed(run, message=away.what)
    # Dagster takes an interrupt that no UI has asked for as a failure; the person at the terminal has asked for it.
    is_interrupted = is_interrupted or _was_interrupted(instance, run.run_id)
    if is_interrupted and run.status is not dg.DagsterRunStatus.SUCCESS:
        instance.report_run_canceled(run, message="Interrupted at the command line.")
    return instance.get_run_by_id(run.run_id), is_interrupted


def _execute(
    settings: Settings,
    artifacts: Artifacts,
    instance: dg.DagsterInstance,
    request: BuildCommand,
    invocation: str,
    interrupt: Interrupt,
) -> None:
    plan = artifacts.write_plan(request.plan, datetime.now(UTC))
    # The code location and every step process read their settings from the environment.
    os.environ[f"{ENV_PREFIX}REPO"] = str(settings.repo)
    os.environ[f"{ENV_PREFIX}HOME"] = str(settings.home)
    os.environ[f"{ENV_PREFIX}DOCKER_FILES_PATH"] = settings.docker_files_path
    os.environ[f"{ENV_PREFIX}PUBLISHED_AS"] = ";".join(settings.published_as)
    os.environ[f"{ENV_PREFIX}SOURCE_COMMIT"] = request.commit
    PinnedCatalog(commit=request.commit, images=_to_load(request.plan)).pin_here()
    if settings.executor == "multiprocess":
        fork_server.start()
    from aml_images_dagster.definitions import build_job

    options = {
        "release_num": request.release_num,
        "release_tag": request.release_tag,
        "source_commit": request.commit,
        "force": request.force,
        "keep_failed": request.keep_failed,
        "plan": plan,
    }
    tags = {
        INVOCATION_TAG: invocation,
        PROCESS_TAG: this_process(),
        IMAGES_TAG: images_tag(request.plan.by_name),
        TRIGGER_TAG: COMMAND_LINE,
        WHO_TAG: actor(settings),
    }
    if request.commit:
        tags[COMMIT_TAG] = request.commit
    interrupt.check()
    execute_located_job(
        dg.reconstructable(build_job),
        instance,
        plan_keys(request.plan),
        run_config=build_config(**options),
        tags=tags,
    )


def _to_load(plan: Plan) -> tuple[str, ...]:
    """The images that the run makes something of; one at least, because Dagster has no job of nothing."""
    to_do = [planned.image for planned in plan.images if not planned.is_unchanged]
    return tuple(to_do or [planned.image for planned in plan.images[:1]])


def _was_interrupted(instance: dg.DagsterInstance, run_id: str) -> bool:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    events = (record.event_log_entry.dagster_event for record in records)
    errors = (event.job_failure_data.error for event in events if event is not None)
    return any(error is not None and error.cls_name in _INTERRUPTS for error in errors)
