"""The job `build`: a person's request becomes a plan and a run in the queue. Without engine and registry."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from aml_images_dagster.defs.images.request_job import request_job
from aml_images_dagster.defs.keys import BUILD_JOB, LOCATION, RELEASE_FILES, REQUEST, REQUEST_JOB
from aml_images_dagster.defs.planning import ToDo
from aml_images_dagster.defs.request import IMAGES_TAG, QUEUE_TAG, TRIGGER_TAG, WHO_TAG, images_tag, options_of
from aml_images_dagster.errors import BadInput
from aml_images_dagster.settings import load_settings
from tests.defs.planned_runs import Scene, chain
from tests.records import write_withdrawal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUEUE = {"run_coordinator": {"module": "dagster", "class": "QueuedRunCoordinator"}}


def location() -> dg.RepositoryDefinition:
    """A code location; Dagster imports this file once more to make it."""
    jobs = dg.Definitions(jobs=[request_job(load_settings())])
    return dg.Definitions.merge(Scene.current.definitions(), jobs).get_repository_def()


class Launched:
    """The run of the job, which is over."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        self.success = run.is_success
        entries = instance.all_logs(run_id)
        self.warnings = [entry.user_message for entry in entries if entry.level == logging.WARNING]
        self._events = [entry.dagster_event for entry in entries if entry.dagster_event]

    @property
    def failure(self) -> str:
        (event,) = [event for event in self._events if event.is_step_failure]
        data = event.step_failure_data.user_failure_data
        assert data is not None
        return str(data.description)

    @property
    def page(self) -> dict[str, Any]:
        """The metadata on the page of the run."""
        (event,) = [event for event in self._events if event.event_type is dg.DagsterEventType.STEP_OUTPUT]
        return {name: value.value for name, value in event.step_output_data.metadata.items()}

    @property
    def plan(self) -> list[Any]:
        return [record.data for record in self.page["plan"].records]


class Launchpad:
    """The launchpad of the job."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def launch(self, **config: Any) -> Launched:
        """As the UI does it, but at once and in this process."""
        # Dagster remembers what it has loaded by the names of file, function and folder.
        repository = ReconstructableRepository.for_file(__file__, "location", str(self.scene.repo))
        job = repository.get_reconstructable_job(REQUEST_JOB)
        origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), SINGLETON_REPOSITORY_NAME)
        run = self.scene.instance.create_run_for_job(
            job.get_definition(),
            run_config={"ops": {REQUEST: {"config": config}}},
            remote_job_origin=origin.get_job_origin(REQUEST_JOB),
            job_code_origin=job.get_python_origin(),
        )
        execute_run(job, run, self.scene.instance)
        return Launched(self.scene.instance, run.run_id)

    def queued(self) -> list[dg.DagsterRun]:
        return list(self.scene.instance.get_runs(dg.RunsFilter(job_name=BUILD_JOB)))

    def build(self, **config: Any) -> Any:
        """What is launched, run to its end."""
        done = self.launch(**config)
        assert done.success
        run = self.queued()[0]
        return self.scene.run(ToDo(list(run.asset_selection or ()), options_of(run)))


@pytest.fixture
def launchpad(tmp_path: Path) -> Iterator[Launchpad]:
    with dg.instance_for_test(overrides=QUEUE) as instance:
        Scene.current = Scene(tmp_path, instance)
        yield Launchpad(Scene.current)


def test_named_images_are_planned_and_their_run_is_in_the_queue(launchpad: Launchpad) -> None:
    done = launchpad.launch(images=["leaf", "tools/root"], who="Ann", release_num=4)
    assert done.success
    (run,) = launchpad.queued()
    assert run.status is dg.DagsterRunStatus.QUEUED
    made = {"/".join(key.path) for key in run.asset_selection or ()}
    assert made == chain("apps/leaf") | chain("tools/root") | {"/".join(key.path) for key in RELEASE_FILES}
    assert (
        run.tags.items()
        >= {
            IMAGES_TAG: "apps/leaf, tools/root",
            TRIGGER_TAG: "Dagster UI",
            WHO_TAG: "Ann",
            QUEUE_TAG: "builds",
        }.items()
    )
    assert options_of(run)["release_num"] == 4
    page = done.page
    assert page["run"] == run.run_id
    assert page["build"].endswith(run.run_id[:8])
    assert [row["image"] for row in done.plan] == ["tools/root", "apps/leaf"]


def test_what_passed_is_reused_and_recorded(launchpad: Launchpad) -> None:
    """All or nothing, as from the command line: reused images have records and entries, and no steps."""
    launchpad.build(all_images=True)
    again = launchpad.build(all_images=True)
    assert again.steps == ["release_files"]
    assert again.reused() == {"apps/leaf", "apps/other", "tools/root"}
    release = json.loads((again.folder.root / "release.json").read_text())
    assert len(release["images"]) == 3
    assert release["release_tag"].endswith(".v2")


def test_the_number_of_a_build_in_the_queue_is_taken(launchpad: Launchpad) -> None:
    for _ in range(2):
        assert launchpad.launch(images=["apps/other"]).success
    assert sorted(options_of(run)["release_num"] for run in launchpad.queued()) == [1, 2]


def test_a_dry_run_shows_the_plan_and_starts_nothing(launchpad: Launchpad) -> None:
    done = launchpad.launch(images=["apps/other"], dry_run=True)
    assert done.success
    assert launchpad.queued() == []
    assert [(row["image"], row["action"]) for row in done.plan] == [("apps/other", "build")]


def test_what_was_withdrawn_is_a_warning(launchpad: Launchpad) -> None:
    built = launchpad.build(images=["apps/other"])
    staged = built.folder.read_staged("apps/other")
    assert staged
    assert launchpad.launch(images=["apps/other"], dry_run=True).warnings == []
    write_withdrawal(launchpad.scene.world.backends.artifacts, "apps/other", staged.digest)
    (warning,) = launchpad.launch(images=["apps/other"], dry_run=True).warnings
    assert "This build cannot be released: apps/other is the image of v1, which was withdrawn" in warning


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"images": ["apps/othr"]}, "Did you mean apps/other"),
        ({"images": ["apps/other"], "all_images": True}, "cannot be combined"),
        ({"images": ["apps/other"], "release_num": 2, "release_tag": "x"}, "are both given"),
    ],
)
def test_a_mistake_is_one_message_and_starts_nothing(launchpad: Launchpad, config: dict[str, Any], said: str) -> None:
    done = launchpad.launch(**config)
    assert not done.success
    assert said in done.failure
    assert launchpad.queued() == []


def test_a_base_that_is_away_is_said_before_anything_starts(
    launchpad: Launchpad, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(reference: str) -> None:
        raise BadInput("no registry has it", where=reference)

    monkeypatch.setattr(launchpad.scene.world.backends.resolver, "resolve", away)
    done = launchpad.launch(images=["apps/other"])
    assert not done.success
    assert "base:1" in done.failure
    assert launchpad.queued() == []


def test_an_image_that_was_added_since_the_location_was_loaded(launchpad: Launchpad) -> None:
    launchpad.scene.add("apps/new")
    done = launchpad.launch(images=["apps/new"])
    assert not done.success
    assert "has not loaded apps/new" in done.failure
    assert launchpad.queued() == []


def test_every_field_has_a_default_and_a_description() -> None:
    schema: Any = request_job(load_settings()).get_node_named(REQUEST).definition.config_schema  # type: ignore[union-attr]
    fields = schema.config_type.fields
    assert {"images", "base", "head", "all_images", "release_num", "release_tag", "dry_run", "force"} <= set(fields)
    for field in fields.values():
        assert not field.is_required
        assert field.description


def test_a_list_of_many_images_is_a_number() -> None:
    assert images_tag(["apps/b", "apps/a"]) == "apps/a, apps/b"
    assert images_tag([f"apps/image{number}" for number in range(12)]) == "12 images"
