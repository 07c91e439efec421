"""The build of a Dagster run."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.naming import build_number, release_tag_for
from aml_images_dagster.builds.planning.plan import left_out
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.catalog import git
from aml_images_dagster.defs.keys import RELEASE_FILES, image_of, is_of_build
from aml_images_dagster.defs.request import (
    BUILD_TAG,
    COMMAND_LINE,
    DAGSTER_UI,
    IMAGES_TAG,
    PULL_REQUEST_TAG,
    TRIGGER_TAG,
    BuildOptions,
    images_tag,
    options_of,
)
from aml_images_dagster.defs.run_state import STOPPED
from aml_images_dagster.defs.stop import stopped_with
from aml_images_dagster.errors import BadInput, BuildFailed, BuildStopped, FactoryError, refused_by_system
from aml_images_dagster.instance.sign_in import SIGNED_IN_TAG
from aml_images_dagster.pull_requests.remote import open_remote
from aml_images_dagster.release.actor import actor
from aml_images_dagster.schedules import read_timetable
from aml_images_dagster.text import code_block, printable
from aml_images_dagster.trust import sbom

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.settings import Settings


FACTORY = "factory"
"""The resource by which assets, jobs and hooks get theirs."""


class Factory:
    """What every asset of a code location shares: settings, source with its schedules, and backends.

    Args:
        settings: All settings.
        source: The image folders that the assets were made from.
        backends: Engine, registries, test runner, artifacts store.
    """

    def __init__(self, settings: Settings, source: Source, backends: Backends) -> None:
        self.settings = settings
        self.source = source
        self.backends = backends
        self.timetable = read_timetable(source.tree, source.catalog)
        self._begun: _Begun | None = None

    @contextmanager
    def step(self, context: dg.AssetExecutionContext, options: BuildOptions) -> Iterator[BuildSession]:
        """A step of a build: errors are shown with a hint, and it stops when the build has ended.

        Raises:
            dg.Failure: In place of a `FactoryError`, and of what the operating system refuses.
        """
        with explained():
            session = self.session(context, options)
            with stopped_with(session):
                yield session

    def session(self, context: dg.AssetExecutionContext, options: BuildOptions) -> BuildSession:
        """The build of a run.

        Raises:
            BadInput: The options contradict each other, or name a commit or folder that does not exist.
        """
        run_id = context.run.run_id
        begun = self._begun if self._begun and self._begun.run_id == run_id else self._begin(context, options)
        return self._session(begun, context.run, options)

    def _session(self, begun: _Begun, run: dg.DagsterRun, options: BuildOptions) -> BuildSession:
        plan = begun.plan or self._plan_of(begun.number, options.plan, begun.source)
        # A plan has those that are reused as they are, too; the run makes nothing of them.
        images = set(plan.by_name) if plan else {split[0] for key in begun.planned if (split := image_of(key))}
        unwanted: dict[str, str] = {}
        if plan is None and PULL_REQUEST_TAG not in run.tags:
            unwanted = left_out(images, options.reasons, begun.source, self.backends, begun.created.date())
        return BuildSession(
            number=begun.number,
            run_id=run.run_id,
            created=begun.created,
            release_tag=release_tag_for(begun.created, options.release_num or None, options.release_tag),
            images=frozenset(images - unwanted.keys()),
            source=begun.source,
            settings=self.settings,
            backends=self.backends,
            reasons=options.reasons,
            force=options.force,
            keep_until=begun.created + timedelta(hours=self.settings.keep_failed_hours)
            if options.keep_failed
            else None,
            releasable=not begun.planned.isdisjoint(RELEASE_FILES),
            trigger=run.tags.get(TRIGGER_TAG, DAGSTER_UI),
            pull_request=run.tags.get(PULL_REQUEST_TAG, ""),
            left_out=unwanted,
            is_checked=run.tags.get(TRIGGER_TAG) == COMMAND_LINE,
            plan=plan,
        )

    def prepare(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        """Load what every step of a build needs, so that steps that are forks of this process inherit it.

        If something cannot be loaded, the steps load it again and report the error.
        """
        options = options_of(run)
        commit, folders, plan = (options.get(name, "") for name in ("source_commit", "docker_files_path", "plan"))
        planned = planned_keys(instance, run.run_id)
        # An option may be {env: NAME}, which Dagster resolves for steps only.
        is_resolved = not any(isinstance(each, dict) for name, each in options.items() if name != "reasons")
        if not any(map(is_of_build, planned)) or not is_resolved:
            return
        stages = Counter(split[1] for key in planned if (split := image_of(key)))
        with suppress(ImportError):
            if stages["staged"] > 1 and self.settings.trust.attach and PULL_REQUEST_TAG not in run.tags:
                sbom.load()
            if stages["tested"] > 1:
                self.backends.runner.load()
        with suppress(FactoryError, OSError):
            created = created_at(instance, run.run_id)
            number = build_number(run.run_id, created)
            source = self._source_of(run, commit, folders) or self._source_as_it_is()
            # Connections to a store are not for forks: elsewhere than on a disk each step reads the plan itself.
            read = self._plan_of(number, plan, source) if self.backends.artifacts.on_disk else None
            tags = _shown(run, number, read, planned)
            if tags:
                instance.add_run_tags(run.run_id, tags)
            self._begun = _Begun(run.run_id, number, created, planned, source, read)
            if self.backends.artifacts.on_disk:
                # Its steps may have to wait; until then people ask for it all the same.
                self._session(self._begun, run, BuildOptions(**options)).begin()

    def _begin(self, context: dg.AssetExecutionContext, options: BuildOptions) -> _Begun:
        instance, run = context.instance, context.run
        created = created_at(instance, run.run_id)
        number = build_number(run.run_id, created)
        source = self._source_of(run, options.source_commit, options.docker_files_path)
        if source is None:
            record = self.backends.artifacts.build(number).read_build()
            source = self._source_as_it_is(record.commit if record else "")
        planned = planned_keys(instance, run.run_id)
        if run.tags.get(BUILD_TAG) != number:
            instance.add_run_tags(run.run_id, _shown(run, number, None, planned))
        return _Begun(run.run_id, number, created, planned, source, None)

    def _plan_of(self, build: str, name: str, source: Source) -> Plan | None:
        """The plan that a run follows; None if its steps decide themselves.

        Raises:
            BadInput: It is gone, or of another commit.
        """
        if not name:
            return None
        plan = self.backends.artifacts.read_plan(name, build)
        if plan is None:
            raise BadInput(
                f"there is no plan {name!r}",
                where="plan",
                hint="Plans are kept for some days only: start a new build instead of running this one again.",
            )
        if plan.commit != source.commit:
            raise BadInput(
                f"the plan is for commit {plan.commit or 'none'}, but the files are from {source.commit or 'none'}",
                where="plan",
                hint="Start a new build, which makes a new plan.",
            )
        return plan

    def _source_of(self, run: dg.DagsterRun, commit: str, docker_files_path: str) -> Source | None:
        """The files that the options or the settings name; None where it is the working tree."""
        pull_request = run.tags.get(PULL_REQUEST_TAG, "")
        if commit and pull_request.isdecimal():
            self._bring(commit, int(pull_request))
        if commit or docker_files_path:
            return load_source(self.settings, commit or self.settings.source_commit, docker_files_path)
        if self.settings.source_commit or not git.is_repository(self.settings.repo):
            return self.source
        return None

    def _bring(self, commit: str, pull_request: int) -> None:
        """Fetch a pull request, unless its commit is here: a run in a pod has a clone of its own, of the branches."""
        try:
            git.resolve(self.settings.repo, commit)
        except BadInput:
            open_remote(self.settings).fetch(pull_request, commit)

    def _source_as_it_is(self, begun: str = "") -> Source:
        """The working tree as it was when a build began.

        All steps of a build read the same commit, whatever happens to the working tree meanwhile.
        """
        commit = begun or git.describe(self.settings.repo)
        if commit == self.source.commit:
            return self.source
        return load_source(self.settings, "" if commit.endswith(git.DIRTY) else commit)


@dataclass(frozen=True)
class _Begun:
    """Values that are the same for all steps of a build."""

    run_id: str
    number: str
    created: datetime
    planned: set[dg.AssetKey]
    source: Source
    plan: Plan | None


def _shown(run: dg.DagsterRun, number: str, plan: Plan | None, planned: set[dg.AssetKey]) -> dict[str, str]:
    """The tags by which people know a build on the page of all runs."""
    images = plan.by_name if plan else {split[0] for key in planned if (split := image_of(key))}
    tags = {IMAGES_TAG: images_tag(images), TRIGGER_TAG: DAGSTER_UI, BUILD_TAG: number}
    return {name: value for name, value in tags.items() if name == BUILD_TAG or name not in run.tags}


def created_at(instance: dg.DagsterInstance, run_id: str) -> datetime:
    """When a run was created, UTC; the same in every step."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        raise BuildFailed("the run is not in the Dagster instance", where=run_id, hint="Start a new build.")
    return record.create_timestamp


def planned_keys(instance: dg.DagsterInstance, run_id: str) -> set[dg.AssetKey]:
    """What a run was started for. Its own events say so; `run.asset_selection` may be empty."""
    records = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, limit=None
    ).records
    events = (record.event_log_entry.dagster_event for record in records)
    return {event.asset_key for event in events if event is not None and event.asset_key is not None}


def images_of(record: dg.RunRecord, artifacts: Artifacts) -> frozenset[str]:
    """The images of a build, also before it has started: those of its plan, else those that its run makes."""
    run = record.dagster_run
    name, plan = options_of(run).get("plan"), None
    if isinstance(name, str):
        with suppress(BadInput):  # a plan that is damaged is said by its own build, and hides no other
            plan = artifacts.read_plan(name, build_number(run.run_id, record.create_timestamp))
    if plan is not None:
        return frozenset(plan.by_name)
    return frozenset(split[0] for key in run.asset_selection or () if (split := image_of(key)))


def acting(run: dg.DagsterRun, named: str, settings: Settings) -> str:
    """Who acts by a run: the user whom the sign-in proxy has let in, else who is named, else the setting or this host.

    Args:
        run: The run.
        named: What the launchpad says; may be empty.
        settings: All settings.
    """
    return run.tags.get(SIGNED_IN_TAG) or named or actor(settings)


def step_log(line: str) -> None:
    """Write to the step's own log, which the UI shows beside its events."""
    sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()


@contextmanager
def explained() -> Iterator[None]:
    """Turn a `FactoryError` into a failure that Dagster shows without a traceback.

    Raises:
        dg.Failure: In place of a `FactoryError`, and of what the operating system refuses.
    """
    with_stacks()
    try:
        yield
    except (FactoryError, OSError) as fault:
        error = refused_by_system(fault) if isinstance(fault, OSError) else fault
        metadata: dict[str, dg.MetadataValue] = {"what": dg.MetadataValue.text(error.what)}
        if error.where:
            metadata["where"] = dg.MetadataValue.text(error.where)
        if error.hint:
            metadata["hint"] = dg.MetadataValue.text(error.hint)
        if isinstance(error, BuildStopped):
            metadata[STOPPED] = dg.MetadataValue.bool(True)
        log = error.log if isinstance(error, BuildFailed) else ""
        if log:
            metadata["log"] = dg.MetadataValue.md(code_block(log))
        raise failure(str(error), metadata) from None


def failure(description: str, metadata: Mapping[str, dg.MetadataValue] | None = None) -> dg.Failure:
    """A failure of a step for its caller to raise: Dagster shows the description and no traceback.

    Dagster records the stack of whatever a step raises, as far as `sys.tracebacklimit` lets it. The limit holds for the
    process, which after a step that fails has nothing to do but its hooks; see `with_stacks`.
    """
    sys.tracebacklimit = 0
    return dg.Failure(description=description, metadata=metadata, allow_retries=False)


def with_stacks() -> None:
    """Let exceptions of this process have their stack again, after a failure that has none."""
    if hasattr(sys, "tracebacklimit"):
        del sys.tracebacklimit
