"""Runs that fail before they reach an engine or a registry, of which neither answers here."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

import aml_images_dagster.defs.run as defs_run
from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.records import Plan
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs.keys import BUILD_JOB, RELEASE_JOB, asset_key
from aml_images_dagster.defs.request import BUILD_TAG, PULL_REQUEST_TAG, RESOURCE, BuildOptions, build_config
from aml_images_dagster.defs.run import Factory, acting, explained, planned_keys
from aml_images_dagster.defs.run_state import first_error, first_failure, was_stopped
from aml_images_dagster.errors import BadInput, BuildFailed, BuildStopped
from aml_images_dagster.instance.sign_in import SIGNED_IN_TAG
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
from tests.image_repository import DOCKERFILES
from tests.pull_requests.remote_repository import RemoteRepository, edit_hello, edit_shell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.image_repository import ImageRepository

    Load = Callable[[ImageRepository], dg.Definitions]


def run(
    definitions: dg.Definitions, instance: dg.DagsterInstance, stage: Any, options: dict[str, Any], **tags: str
) -> dg.ExecuteInProcessResult:
    return definitions.resolve_job_def(BUILD_JOB).execute_in_process(
        run_config={"resources": {RESOURCE: {"config": options}}},
        asset_selection=[asset_key("apps/other", stage)],
        instance=instance,
        tags=tags,
        raise_on_error=False,
    )


def failure(result: dg.ExecuteInProcessResult) -> Any:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return event.step_failure_data.user_failure_data


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"release_num": 2, "release_tag": "x"}, "release_num 2 and release_tag 'x' are both given"),
        ({"release_num": -1}, "release_num is -1"),
        ({"release_tag": "latest"}, "'latest' cannot be a release tag"),
        ({"source_commit": "no-such-commit"}, "git knows no revision 'no-such-commit'"),
        ({"docker_files_path": "nowhere"}, "there is no folder 'nowhere'"),
        ({"docker_files_path": "images/tools"}, "there is no image 'apps/other'"),
    ],
)
def test_options_that_are_wrong(repository: ImageRepository, load: Load, options: dict[str, Any], what: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(load(repository), instance, "staged", options)
    assert not result.success
    explained = failure(result)
    assert what in explained.description
    assert what in explained.metadata["what"].value
    assert explained.metadata["hint"].value
    assert not list(repository.artifacts.glob("*/.records/*"))
    hooks = [event.event_type for event in result.all_events if event.is_hook_event]
    assert hooks == [dg.DagsterEventType.HOOK_COMPLETED], "it is cleaned up, though nobody answers"


PLAN = f"20261123.{'0' * 64}"


def test_a_plan_that_is_gone(repository: ImageRepository, load: Load) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(load(repository), instance, "staged", {"plan": PLAN})
    assert f"there is no plan '{PLAN}'" in failure(result).description


def test_a_plan_of_another_commit(repository: ImageRepository, load: Load) -> None:
    definitions = load(repository)
    artifacts = Artifacts(str(repository.artifacts))
    name = artifacts.write_plan(Plan(commit="abc", images=()), datetime(2026, 11, 23, tzinfo=UTC))
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(definitions, instance, "staged", {"plan": name})
    head = repository.git("rev-parse", "HEAD")
    assert f"the plan is for commit abc, but the files are from {head}" in failure(result).description


def test_a_pull_request_makes_no_release_entry(repository: ImageRepository, load: Load) -> None:
    """It would count as a rebuild of the image, and hide that a month's is missing."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(load(repository), instance, "import_cfg", {}, **{PULL_REQUEST_TAG: "7"})
    assert not result.success
    assert failure(result).description.startswith("pull request 7: a build of a pull request ends with its tests")
    assert not result.get_asset_materialization_events()


def test_a_registry_that_is_down(repository: ImageRepository, load: Load) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(load(repository), instance, "staged", {})
    explained = failure(result)
    assert "can't be resolved" in explained.description
    assert "127.0.0.1:9" in explained.description


def test_artifacts_that_cannot_be_written(
    repository: ImageRepository, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository.root / "file").write_text("")
    monkeypatch.setenv("AML_IMAGES_HOME", "file/home")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(load(repository), instance, "staged", {})
    assert "file/home" in failure(result).description
    assert "Not a directory" in failure(result).description
    assert [event.event_type for event in result.all_events if event.is_hook_event] == [
        dg.DagsterEventType.HOOK_COMPLETED
    ]


def test_a_test_of_an_image_that_was_never_staged(repository: ImageRepository, load: Load) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(load(repository), instance, "tested", {})
    assert "apps/other is not in staging" in failure(result).description


def test_a_release_entry_of_an_image_that_was_never_staged(repository: ImageRepository, load: Load) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(load(repository), instance, "import_cfg", {})
    assert "apps/other was not staged by build" in failure(result).description


def test_a_failure_that_explains_itself_shows_its_log() -> None:
    with pytest.raises(dg.Failure) as failed, explained():
        raise BuildFailed("it broke", where="here", hint="Do this.", log="line 1\nline 2")
    assert failed.value.description == "here: it broke\n  Do this."
    assert failed.value.__cause__ is None
    assert not failed.value.allow_retries
    assert failed.value.metadata["log"].value == "```\nline 1\nline 2\n```"


def test_why_a_run_failed_is_known_in_parts() -> None:
    """As programs read it; `failure` has the same in one text."""

    @dg.asset
    def explains_itself() -> None:
        with explained():
            raise BuildFailed("it broke", where="here", hint="Do this.", log="line 1")

    @dg.asset
    def has_a_defect() -> None:
        raise ValueError("nobody has thought of it")

    def found(asset: dg.AssetsDefinition) -> tuple[dict[str, str], str]:
        with dg.DagsterInstance.ephemeral() as instance:
            run_id = dg.materialize([asset], instance=instance, raise_on_error=False).run_id
            failure = first_failure(instance, run_id)
            assert failure is not None
            return first_error(instance, run_id), failure.message

    error = {"what": "it broke", "where": "here", "hint": "Do this."}
    assert found(explains_itself) == (error, "here: it broke\n  Do this.")
    error, message = found(has_a_defect)
    assert (error, "nobody has thought of it" in message) == ({}, True)


def test_a_log_cannot_leave_its_block_in_the_ui() -> None:
    with pytest.raises(dg.Failure) as failed, explained():
        raise BuildFailed("it broke", log="```\n[click](http://evil)")
    assert failed.value.metadata["log"].value == "````\n```\n[click](http://evil)\n````"


@pytest.mark.parametrize(("error", "stopped"), [(BuildFailed("it broke"), False), (BuildStopped("elsewhere"), True)])
def test_a_step_that_was_stopped_is_not_why_a_run_failed(error: BuildFailed, stopped: bool) -> None:
    @dg.asset
    def step() -> None:
        with explained():
            raise error

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([step], instance=instance, raise_on_error=False)
        (event,) = [event for event in result.all_events if event.is_step_failure]
        failure = first_failure(instance, result.run_id)
    assert was_stopped(event) is stopped
    assert failure is not None
    assert failure.step == ("" if stopped else "step")
    assert ("it broke" in failure.message) is not stopped


def test_what_is_the_same_for_all_steps_is_found_out_once(
    repository: ImageRepository, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    definitions = load(repository)
    settings = load_settings()
    factory = Factory(settings, load_source(settings), backends_for(settings))
    with dg.DagsterInstance.ephemeral() as instance:
        run, other = (instance.create_run_for_job(definitions.resolve_job_def(BUILD_JOB)) for _ in range(2))
        release = instance.create_run_for_job(definitions.resolve_job_def(RELEASE_JOB))
        asked: list[str] = []
        monkeypatch.setattr(
            defs_run, "planned_keys", lambda _, run_id: (asked.append(run_id), planned_keys(instance, run_id))[1]
        )
        for prepared in (release, run):
            factory.prepare(instance, prepared)
        assert BUILD_TAG not in instance.get_runs(dg.RunsFilter(run_ids=[release.run_id]))[0].tags
        asked.clear()
        step: Any = SimpleNamespace(instance=instance, run=run)
        for _ in range(2):
            session = factory.session(step, BuildOptions())
        assert asked == []
        assert session.images == {repository.image(image) for image in DOCKERFILES}
        assert instance.get_runs(dg.RunsFilter(tags={BUILD_TAG: session.number}))[0].run_id == run.run_id
        factory.session(SimpleNamespace(instance=instance, run=other), BuildOptions())  # type: ignore[arg-type]
        assert asked == [other.run_id]


@pytest.mark.parametrize(("tested", "loads"), [((), 0), (("apps/hello",), 0), (("apps/hello", "apps/other"), 1)])
def test_what_runs_jobs_is_loaded_for_several_images_that_are_tested(
    repository: ImageRepository, load: Load, monkeypatch: pytest.MonkeyPatch, tested: tuple[str, ...], loads: int
) -> None:
    definitions = load(repository)
    settings = load_settings()
    factory = Factory(settings, load_source(settings), backends_for(settings))
    keys = {asset_key(repository.image(image), "tested") for image in tested} | {asset_key("apps/x", "staged")}
    monkeypatch.setattr(defs_run, "planned_keys", lambda *_: keys)
    loaded: list[str] = []
    monkeypatch.setattr(factory.backends.runner, "load", lambda: loaded.append("runner"))
    with dg.DagsterInstance.ephemeral() as instance:
        factory.prepare(instance, instance.create_run_for_job(definitions.resolve_job_def(BUILD_JOB)))
    assert len(loaded) == loads


def test_a_run_fetches_the_pull_request_that_its_clone_lacks(
    repository: ImageRepository, load: Load, tmp_path: Path
) -> None:
    """A pod of a run has a clone of its own, made when it starts, and of the branches only."""
    definitions = load(repository)
    remote = RemoteRepository.create(tmp_path, repository)
    head = remote.push(7, edit_hello)
    remote.push(7, edit_shell, onto=head)  # and another commit since
    settings = load_settings()
    factory = Factory(settings, load_source(settings), backends_for(settings))
    options, config = BuildOptions(source_commit=head), build_config(source_commit=head)
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def(BUILD_JOB)
        run, other = (
            instance.create_run_for_job(job, run_config=config, tags={PULL_REQUEST_TAG: number}) for number in ("7", "")
        )
        with pytest.raises(BadInput, match="knows no revision"):
            factory.session(SimpleNamespace(instance=instance, run=other), options)  # type: ignore[arg-type]
        session = factory.session(SimpleNamespace(instance=instance, run=run), options)  # type: ignore[arg-type]
    assert session.source.commit == head
    assert "RUN echo changed" in session.image(repository.image("apps/hello")).dockerfile.text


@pytest.mark.parametrize(
    ("tags", "named", "acts"),
    [
        ({SIGNED_IN_TAG: "ada"}, "bob", "ada"),
        ({SIGNED_IN_TAG: "ada"}, "", "ada"),
        ({}, "bob", "bob"),
        ({}, "", "the setting"),
    ],
)
def test_who_acts_is_whom_the_proxy_has_let_in_whatever_the_launchpad_says(
    tmp_path: Path, tags: dict[str, str], named: str, acts: str
) -> None:
    settings = load_settings(repo=tmp_path, release={"who": "the setting"})
    assert acting(dg.DagsterRun("release", tags=tags), named, settings) == acts
