"""From a Dagster run to the build that it is."""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from aml_images_dagster.builds.naming import build_number, release_tag_for
from aml_images_dagster.builds.process import this_process
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.builds.source import open_source
from aml_images_dagster.catalog import git
from aml_images_dagster.defs.keys import RELEASE_JSON, image_of
from aml_images_dagster.defs.request import (
    BUILD_TAG,
    COMMAND_LINE,
    DAGSTER_UI,
    PULL_REQUEST_TAG,
    RESOURCE,
    TRIGGER_TAG,
)
from aml_images_dagster.defs.run_state import PROCESS_TAG, STOPPED, name_process
from aml_images_dagster.defs.stop import stopped_with
from aml_images_dagster.errors import BuildFailed, BuildStopped, FactoryError, refused_by_system
from aml_images_dagster.schedules.schedule import read_timetable
from aml_images_dagster.text import code_block, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.defs.request import BuildOptions
    from aml_images_dagster.settings import Settings


WORKSHOP = "workshop"
"""The resource by which assets, jobs and hooks get theirs."""


class Workshop:
    """What every asset of a code location shares: settings, source with its schedules, and parts.

    Args:
        settings: All settings.
        source: The image folders that the assets were made from.
        parts: Engine, registries, test runner, artifacts store.
    """

    def __init__(self, settings: Settings, source: Source, parts: Parts) -> None:
        self.settings = settings
        self.source = source
        self.parts = parts
        self.timetable = read_timetable(source.tree, source.catalogue)
        self._begun: _Begun | None = None

    @contextmanager
    def step(self, context: dg.AssetExecutionContext, options: BuildOptions) -> Iterator[BuildSession]:
        """A step of the build that a run is: its failure explains itself, and it ends when the build has ended.

        Raises:
            dg.Failure: In place of a `FactoryError`, and of what the operating system refuses.
        """
        with explained():
            session = self.session(context, options)
            with stopped_with(session):
                yield session

    def session(self, context: dg.AssetExecutionContext, options: BuildOptions) -> BuildSession:
        """The build that a run is.

        Raises:
            BadInput: The options contradict each other, or name a commit or folder that does not exist.
        """
        run_id = context.run.run_id
        begun = self._begun if self._begun and self._begun.run_id == run_id else self._begin(context, options)
        return BuildSession(
            number=begun.number,
            run_id=run_id,
            created=begun.created,
            release_tag=release_tag_for(begun.created, options.release_num or None, options.release_tag),
            images=frozenset(image for key in begun.planned if (split := image_of(key)) for image in [split[0]]),
            source=begun.source,
            settings=self.settings,
            parts=self.parts,
            reasons=options.reasons,
            force=options.force,
            keep_until=begun.created + timedelta(hours=self.settings.keep_failed_hours)
            if options.keep_failed
            else None,
            releasable=RELEASE_JSON in begun.planned,
            trigger=context.run.tags.get(TRIGGER_TAG, DAGSTER_UI),
            pull_request=context.run.tags.get(PULL_REQUEST_TAG, ""),
            is_checked=context.run.tags.get(TRIGGER_TAG) == COMMAND_LINE,
        )

    def prepare(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        """Find out what every step of a build asks for; steps that are forks of this process have it then.

        What cannot be found out is left to the steps, which say so.
        """
        resources: Any = run.run_config.get("resources", {})
        config = resources.get(RESOURCE, {}).get("config", {})
        commit, folders = config.get("source_commit", ""), config.get("docker_files_path", "")
        planned = planned_keys(instance, run.run_id)
        if not any(map(image_of, planned)) or not (isinstance(commit, str) and isinstance(folders, str)):
            return
        with suppress(FactoryError, OSError):
            created = created_at(instance, run.run_id)
            number = build_number(run.run_id, created)
            source = self._source_of(commit, folders) or self._source_as_it_is()
            instance.add_run_tags(run.run_id, {PROCESS_TAG: this_process(), BUILD_TAG: number})
            self._begun = _Begun(run.run_id, number, created, planned, source)

    def _begin(self, context: dg.AssetExecutionContext, options: BuildOptions) -> _Begun:
        instance, run = context.instance, context.run
        name_process(instance, run)
        created = created_at(instance, run.run_id)
        number = build_number(run.run_id, created)
        if run.tags.get(BUILD_TAG) != number:
            instance.add_run_tags(run.run_id, {BUILD_TAG: number})
        source = self._source_of(options.source_commit, options.docker_files_path)
        if source is None:
            begun = self.parts.artifacts.build(number).read_build()
            source = self._source_as_it_is(begun.commit if begun else "")
        return _Begun(run.run_id, number, created, planned_keys(instance, run.run_id), source)

    def _source_of(self, commit: str, docker_files_path: str) -> Source | None:
        """The files that the options or the settings name; None where it is the working tree."""
        if commit or docker_files_path:
            return open_source(self.settings, commit or self.settings.source_commit, docker_files_path)
        if self.settings.source_commit or not git.is_repository(self.settings.repo):
            return self.source
        return None

    def _source_as_it_is(self, begun: str = "") -> Source:
        """The working tree as it was when a build began.

        All steps of a build read the same commit, whatever happens to the working tree meanwhile.
        """
        commit = begun or git.describe(self.settings.repo)
        if commit == self.source.commit:
            return self.source
        return open_source(self.settings, "" if commit.endswith(git.DIRTY) else commit)


@dataclass(frozen=True)
class _Begun:
    """What is the same for all steps of a build."""

    run_id: str
    number: str
    created: datetime
    planned: set[dg.AssetKey]
    source: Source


def created_at(instance: dg.DagsterInstance, run_id: str) -> datetime:
    """When a run was created, UTC; the same in every step."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        raise BuildFailed("the run is not in the Dagster instance", where=run_id, mend="Start a new build.")
    return record.create_timestamp


def planned_keys(instance: dg.DagsterInstance, run_id: str) -> set[dg.AssetKey]:
    """What a run was started for. Its own events say so; `run.asset_selection` may be empty."""
    records = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, limit=None
    ).records
    events = (record.event_log_entry.dagster_event for record in records)
    return {event.asset_key for event in events if event is not None and event.asset_key is not None}


def step_log(line: str) -> None:
    """Write to the step's own log, which the UI shows beside its events."""
    sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()


@contextmanager
def explained() -> Iterator[None]:
    """Turn a failure that explains itself into one that Dagster shows without a traceback of ours.

    Raises:
        dg.Failure: In place of a `FactoryError`, and of what the operating system refuses.
    """
    try:
        yield
    except (FactoryError, OSError) as fault:
        error = refused_by_system(fault) if isinstance(fault, OSError) else fault
        metadata: dict[str, dg.MetadataValue] = {"what": dg.MetadataValue.text(error.what)}
        if error.where:
            metadata["where"] = dg.MetadataValue.text(error.where)
        if error.mend:
            metadata["mend"] = dg.MetadataValue.text(error.mend)
        if isinstance(error, BuildStopped):
            metadata[STOPPED] = dg.MetadataValue.bool(True)
        log = error.log if isinstance(error, BuildFailed) else ""
        if log:
            metadata["log"] = dg.MetadataValue.md(code_block(log))
        raise dg.Failure(description=str(error), metadata=metadata, allow_retries=False) from None
