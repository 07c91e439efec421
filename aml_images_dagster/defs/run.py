"""From a Dagster run to the build that it is."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.naming import build_number, release_tag_for
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.builds.source import open_source
from aml_images_dagster.catalog import git
from aml_images_dagster.defs.keys import RELEASE_FILES, image_of
from aml_images_dagster.defs.request import (
    BUILD_TAG,
    COMMAND_LINE,
    DAGSTER_UI,
    PULL_REQUEST_TAG,
    TRIGGER_TAG,
    options_of,
)
from aml_images_dagster.defs.run_state import STOPPED, name_process
from aml_images_dagster.defs.stop import stopped_with
from aml_images_dagster.errors import BadInput, BuildFailed, BuildStopped, FactoryError, refused_by_system
from aml_images_dagster.markdown import code_block
from aml_images_dagster.schedules.schedule import read_timetable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.defs.request import BuildOptions
    from aml_images_dagster.settings import Settings


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
        name_process(context.instance, context.run)
        created = created_at(context.instance, run_id)
        number = build_number(run_id, created)
        if context.run.tags.get(BUILD_TAG) != number:
            context.instance.add_run_tags(run_id, {BUILD_TAG: number})
        keys = planned_keys(context.instance, run_id)
        source = self._source_of(number, options)
        plan = self._plan_of(number, options, source)
        in_run = {image for key in keys if (split := image_of(key)) for image in [split[0]]}
        return BuildSession(
            number=number,
            run_id=run_id,
            created=created,
            release_tag=release_tag_for(created, options.release_num or None, options.release_tag),
            images=frozenset(plan.by_name) if plan else frozenset(in_run),
            source=source,
            settings=self.settings,
            parts=self.parts,
            reasons=options.reasons,
            force=options.force,
            keep_until=created + timedelta(hours=self.settings.keep_failed_hours) if options.keep_failed else None,
            releasable=not keys.isdisjoint(RELEASE_FILES),
            trigger=context.run.tags.get(TRIGGER_TAG, DAGSTER_UI),
            pull_request=context.run.tags.get(PULL_REQUEST_TAG, ""),
            is_checked=context.run.tags.get(TRIGGER_TAG) == COMMAND_LINE,
            plan=plan,
        )

    def _plan_of(self, build: str, options: BuildOptions, source: Source) -> Plan | None:
        """The plan that a run follows, from the build's own artifacts once it has begun."""
        if not options.plan:
            return None
        plan = self.parts.artifacts.build(build).read_plan() or self.parts.artifacts.read_plan(options.plan)
        if plan is None:
            raise BadInput(
                f"there is no plan {options.plan!r}",
                where="plan",
                mend="Plans are kept for some days only: start a new build instead of this run again.",
            )
        if plan.commit != source.commit:
            raise BadInput(
                f"the plan is of commit {plan.commit or 'none'}, but the files are those of {source.commit or 'none'}",
                where="plan",
                mend="Start a new build: what is there now is planned then.",
            )
        return plan

    def _source_of(self, build: str, options: BuildOptions) -> Source:
        """The files of a build: all its steps read the same commit, whatever happens to the working tree meanwhile."""
        if options.source_commit or options.docker_files_path:
            commit = options.source_commit or self.settings.source_commit
            return open_source(self.settings, commit, options.docker_files_path)
        if self.settings.source_commit or not git.is_repository(self.settings.repo):
            return self.source
        begun = self.parts.artifacts.build(build).read_build()
        commit = begun.commit if begun is not None else git.describe(self.settings.repo)
        if commit == self.source.commit:
            return self.source
        return open_source(self.settings, "" if commit.endswith(git.DIRTY) else commit)


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


def images_of(record: dg.RunRecord, artifacts: Artifacts) -> frozenset[str]:
    """The images of a build, before it has begun, too: those of its plan, else those that its run makes."""
    run = record.dagster_run
    name = options_of(run).get("plan")
    if name:
        build = build_number(run.run_id, record.create_timestamp)
        plan = artifacts.build(build).read_plan() or artifacts.read_plan(name)
        if plan is not None:
            return frozenset(plan.by_name)
    return frozenset(split[0] for key in run.asset_selection or () if (split := image_of(key)))


def step_log(line: str) -> None:
    """Write to the step's own log, which the UI shows beside its events."""
    sys.stdout.write(f"{line}\n")
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
