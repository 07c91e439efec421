"""Runs that hold only what a plan says has to be done, in one process, without engine and registry."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from aml_images_dagster.builds.cleanup import cleanup
from aml_images_dagster.defs.keys import STAGES, asset_key
from aml_images_dagster.defs.planning import ToDo, to_do
from aml_images_dagster.defs.request import PULL_REQUEST_TAG, build_keys
from aml_images_dagster.defs.run import images_of
from tests.builds.in_memory import write, write_image
from tests.defs.planned_runs import ALL, FILES, Scene, chain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEDULE = """name: nightly
description: The leaf, every night.
cron: 0 3 * * *
timezone: UTC
selection: {images: [apps/leaf]}
stale_after_days: 3
"""


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
