"""Runs that hold only what a plan says has to be done, in one process, without engine and registry."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from aml_images_dagster.builds.cleanup import cleanup
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.source import open_source
from aml_images_dagster.defs import images
from aml_images_dagster.defs.keys import BUILD_JOB, RELEASE_FILES, STAGES, asset_key
from aml_images_dagster.defs.planning import ToDo, pull_request_to_do, to_do
from aml_images_dagster.defs.release.release_files import release_files
from aml_images_dagster.defs.request import PULL_REQUEST_TAG, RESOURCE, BuildOptions, build_config, build_keys
from aml_images_dagster.defs.run import FACTORY, Factory, images_of
from aml_images_dagster.pull_requests.changes import Changes
from tests.builds.in_memory import MemoryFactory, write, write_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from aml_images_dagster.builds.artifacts import BuildFolder

ALL = ("apps/leaf", "apps/other", "tools/root")
SCHEDULE = """name: nightly
description: The leaf, every night.
cron: 0 3 * * *
timezone: UTC
selection: {images: [apps/leaf]}
stale_after_days: 3
"""


class Scene:
    """Three images, and a Dagster instance that remembers every run."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.repo = root / "repo"
        write_image(self.repo, "tools/root", "FROM base:1\nCOPY data /\n")
        write_image(self.repo, "apps/leaf", "FROM registry.example/root:latest\nCOPY data /\n")
        write_image(self.repo, "apps/other", "FROM base:1\nRUN true\n")
        write(self.repo / "checks" / "check.sh", "echo well\n")
        self.world = MemoryFactory(self.repo, root / "home", {"base:1": f"sha256:{'b' * 64}"})
        self.instance = instance

    @property
    def factory(self) -> Factory:
        return Factory(self.world.settings, open_source(self.world.settings), self.world.backends)

    def plan(self, pull_request: str = "") -> ToDo:
        factory = self.factory
        selection = dict.fromkeys(ALL, ("all",))
        if pull_request:
            changes = Changes(reasons=selection, images=(), notes=(), plan=self.world.plan())
            found = pull_request_to_do(factory, changes)
        else:
            found = to_do(factory, selection, factory.source, seconds=60)
        assert not found.unplanned
        return found

    def run(self, requested: ToDo, **tags: str) -> Run:
        factory = self.factory
        known = [factory.source.catalog.images[image] for image in ALL]
        shared = dg.Definitions(
            jobs=[images.build_job(known)],
            resources={RESOURCE: BuildOptions.configure_at_launch(), FACTORY: factory},
        )
        files = dg.Definitions(assets=[release_files(known, factory.timetable)])
        definitions = dg.Definitions.merge(images.definitions(known, factory), files, shared)
        result = definitions.resolve_job_def(BUILD_JOB).execute_in_process(
            run_config=build_config(**requested.options),
            asset_selection=requested.keys,
            instance=self.instance,
            tags=tags,
            raise_on_error=False,
        )
        return Run(self, result)

    def build(self, **tags: str) -> Run:
        done = self.run(self.plan(tags.get(PULL_REQUEST_TAG, "")), **tags)
        assert done.result.success
        return done


class Run:
    """A run that is over."""

    def __init__(self, scene: Scene, result: dg.ExecuteInProcessResult) -> None:
        self.result = result
        record = scene.instance.get_run_record_by_id(result.run_id)
        assert record is not None
        self.record = record
        self.artifacts = scene.factory.backends.artifacts

    @property
    def folder(self) -> BuildFolder:
        return self.artifacts.build(build_number(self.result.run_id, self.record.create_timestamp))

    @property
    def steps(self) -> list[str]:
        return [str(event.step_key) for event in self.result.all_events if event.is_step_start]

    @property
    def made(self) -> set[str]:
        return {"/".join(event.asset_key.path) for event in self.result.get_asset_materialization_events()}  # type: ignore[union-attr]

    def reused(self) -> set[str]:
        staged = [record for image in ALL if (record := self.folder.read_staged(image))]
        assert all(self.folder.read_tested(record.image) for record in staged)
        return {record.image for record in staged if record.reused(self.folder.build)}


def chain(image: str, stages: Sequence[str] = STAGES) -> set[str]:
    return {f"{image}.{stage}" for stage in stages}


FILES = {"/".join(key.path) for key in RELEASE_FILES}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scene(tmp_path, instance)


def test_when_nothing_changed_there_is_one_step(scene: Scene) -> None:
    assert len(scene.build().steps) == 2 * len(ALL) + 1
    again = scene.build()
    assert (again.steps, again.made) == (["release_files"], FILES)
    assert again.reused() == set(ALL)
    record = again.folder.read_build()
    assert record is not None
    assert (record.status, set(record.images)) == ("succeeded", set(ALL))
    assert images_of(again.record, again.artifacts) == set(ALL)


def test_one_leaf_that_changed_has_its_chain_and_the_step_of_the_files(scene: Scene) -> None:
    scene.build()
    write(scene.repo / "images/apps/leaf/data", "new\n")
    done = scene.build()
    assert done.steps == ["apps__leaf_staged", "apps__leaf_tested", "release_files"]
    assert done.made == chain("apps/leaf") | FILES
    assert done.reused() == {"apps/other", "tools/root"}


def test_an_image_whose_test_changed_is_only_tested(scene: Scene) -> None:
    scene.build()
    write_image(scene.repo, "apps/other", "FROM base:1\nRUN true\n", scenario="new.sh")
    write(scene.repo / "checks" / "new.sh", "echo better\n")
    done = scene.build()
    assert done.steps == ["apps__other_tested", "release_files"]
    assert done.made == chain("apps/other", STAGES[1:]) | FILES
    assert done.reused() == set(ALL)


def test_what_had_to_be_made_after_all_shows_as_if_a_step_had_made_it(scene: Scene) -> None:
    first = scene.build()
    requested = scene.plan()
    assert cleanup(first.folder.build, scene.factory.backends, "expired").clean
    done = scene.run(requested)
    assert done.result.success
    assert done.steps == ["release_files"]
    assert done.made == FILES | {key for image in ALL for key in chain(image, ("staged", "tested"))}
    assert done.reused() == set()
    checks = {(check.asset_key.path[-1], check.check_name) for check in done.result.get_asset_check_evaluations()}
    assert ("root.staged", "digest") in checks


def test_an_image_that_a_schedule_builds_is_fresh_again(scene: Scene) -> None:
    write(scene.repo / "schedules" / "nightly.yaml", SCHEDULE)
    scene.build()
    assert scene.build().made == FILES | {"apps/leaf.import_cfg"}


def test_the_budget_of_an_image_that_is_reused_is_looked_at(scene: Scene) -> None:
    scene.build()
    write(scene.repo / "images/apps/leaf/image.json", '{"size_budget_mb": 1}')
    done = scene.build()
    (check,) = done.result.get_asset_check_evaluations()
    assert (check.asset_key, check.check_name, check.passed) == (asset_key("apps/leaf", "staged"), "size", True)


@pytest.mark.parametrize("changed", [False, True])
def test_a_pull_request_records_what_it_reuses_in_one_of_its_tests(scene: Scene, changed: bool) -> None:
    scene.build()
    if changed:
        write(scene.repo / "images/apps/leaf/data", "new\n")
    done = scene.build(**{PULL_REQUEST_TAG: "7"})
    if changed:
        assert done.steps == ["apps__leaf_staged", "apps__leaf_tested"]
        assert done.reused() == {"apps/other", "tools/root"}
    else:
        assert len(done.steps) == 1
        assert done.reused() == set(ALL)
    assert {image for image in ALL if done.folder.read_staged(image)} == set(ALL)


def test_a_run_without_a_plan_finds_out_itself(scene: Scene) -> None:
    scene.build()
    whole = ToDo(build_keys(ALL), {})
    done = scene.run(whole)
    assert done.result.success
    assert len(done.steps) == 2 * len(ALL) + 1
    assert done.reused() == set(ALL)
    assert done.folder.read_plan() is None


def test_registries_that_do_not_answer_cost_a_plan_and_no_more(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()

    def hang(*_: Any) -> None:
        hanging.wait(60)

    monkeypatch.setattr(scene.factory.backends.resolver, "resolve", hang)
    found = to_do(scene.factory, {"apps/leaf": ("named",)}, scene.factory.source, seconds=0.2)
    hanging.set()
    assert found.keys == build_keys(["apps/leaf"])
    assert found.options == {"reasons": {"apps/leaf": ["named"]}}
    assert "not complete within 0.2 s" in found.unplanned
