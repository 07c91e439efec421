"""Runs that hold only what a plan says has to be done, in one process, without engine and registry."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.storage.tags import TagType, get_tag_type

from aml_images_dagster.builds.housekeeping.cleanup import cleanup
from aml_images_dagster.defs.images import checks, staged
from aml_images_dagster.defs.images.checks import FactResult, StagedCheck
from aml_images_dagster.defs.keys import RELEASED, STAGES, asset_key, released_key
from aml_images_dagster.defs.operations.cleanup import observe_removed
from aml_images_dagster.defs.planning import ToDo, to_do
from aml_images_dagster.defs.pull_requests.report import report_of
from aml_images_dagster.defs.request import (
    BUILD_TAG,
    IMAGES_TAG,
    PULL_REQUEST_TAG,
    QUEUE_TAG,
    TRIGGER_TAG,
    build_keys,
)
from aml_images_dagster.defs.run import images_of
from aml_images_dagster.errors import BuildFailed
from aml_images_dagster.pull_requests.tracking import Tracked
from tests.builds.in_memory import write, write_image
from tests.defs.planned_runs import ALL, FILES, Run, Scene, chain

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
    write_image(scene.repo, "apps/other", "FROM base:1\nRUN true\n", scenario="new.py")
    write(scene.repo / "checks" / "new.py", "echo better\n")
    done = scene.build()
    assert done.steps == ["apps__other_tested", "release_files"]
    assert done.made == chain("apps/other", STAGES[1:]) | FILES
    assert done.reused() == set(ALL)


def test_an_image_without_scenarios_has_no_step_that_tests_it(scene: Scene) -> None:
    for tests in (scene.repo / "images").rglob("tests.json"):
        tests.unlink()
    done = scene.build()
    assert done.steps[-1] == "release_files", "it waits for the images"
    assert set(done.steps) == {"apps__leaf_staged", "apps__other_staged", "tools__root_staged", "release_files"}
    assert done.made == FILES.union(*map(chain, ALL)), "the course of each asset goes on"
    assert all((tested := done.folder.read_tested(image)) and tested.scenarios == () for image in ALL)
    assert scene.build().reused() == set(ALL)


def test_an_image_that_a_check_refuses_has_not_passed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for tests in (scene.repo / "images").rglob("tests.json"):
        tests.unlink()
    refused = [StagedCheck("wrong", "Always.", lambda *_: FactResult(False, "no"), blocking=True)]
    monkeypatch.setattr(checks, "STAGED_CHECKS", refused)
    monkeypatch.setattr(staged, "STAGED_CHECKS", refused)
    done = scene.run(scene.plan())
    assert not done.result.success
    assert [done.folder.read_tested(image) for image in ALL] == [None] * len(ALL)
    assert scene.factory.backends.artifacts.read_last_passed("tools/root") is None


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


def warnings(done: Run, scene: Scene) -> list[str]:
    entries = scene.instance.all_logs(done.result.run_id)
    return [entry.user_message for entry in entries if entry.level == logging.WARNING]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"eol": "2020-01-01"},
            "apps/other is left out: it is past its end of life (2020-01-01)",
        ),
        ({"platform": "windows/amd64"}, "apps/other is left out: nothing is configured that builds Windows images"),
    ],
)
def test_materialize_all_leaves_out_what_is_not_to_be_built(scene: Scene, settings: dict[str, str], said: str) -> None:
    write(scene.repo / "images/apps/other/image.json", json.dumps(settings))
    done = scene.run(ToDo(build_keys(ALL), {}))
    assert done.result.success
    assert done.made == chain("apps/leaf") | chain("tools/root") | FILES
    (warning,) = [warning for warning in warnings(done, scene) if "left out" in warning]
    assert warning.startswith(said)
    record = done.folder.read_build()
    assert record is not None
    assert (record.status, record.images) == ("succeeded", ("apps/leaf", "tools/root"))
    assert len(json.loads((done.folder.root / "release.json").read_text())["images"]) == 2


@pytest.mark.parametrize("options", [{}, {"reasons": {"apps/other": ["asked for"]}}])
def test_an_image_past_its_end_of_life_is_built_by_its_name(scene: Scene, options: dict[str, Any]) -> None:
    write(scene.repo / "images/apps/other/image.json", json.dumps({"eol": "2020-01-01"}))
    images = ["apps/other"] if not options else ALL
    done = scene.run(ToDo(build_keys(images), options))
    assert done.result.success
    assert chain("apps/other") <= done.made


@pytest.mark.parametrize("config", [{}, {"build": "20261123.00000000"}])
def test_a_release_that_is_selected_with_a_build_is_skipped_and_takes_nothing_back(
    scene: Scene, config: dict[str, str]
) -> None:
    released = released_key("apps/other")
    done = scene.run(ToDo([*build_keys(ALL), released], {}), ops={RELEASED: {"config": config}})
    assert done.result.success
    assert "/".join(released.path) not in done.made
    assert [w for w in warnings(done, scene) if w.startswith("nothing is released: this run is a build")]
    record = done.folder.read_build()
    assert record is not None
    assert record.status == "succeeded"


def test_a_release_without_a_named_build_is_skipped(scene: Scene) -> None:
    done = scene.run(ToDo([released_key("apps/other")], {}))
    assert done.result.success
    assert done.made == set()
    assert [w for w in warnings(done, scene) if w.startswith("nothing is released: no build is named")]


SCENARIOS = ("contract", "single-node", "mpi")


def test_each_scenario_is_a_check_of_its_own(scene: Scene) -> None:
    write_image(scene.repo, "apps/other", "FROM base:1\nRUN true\n", names=SCENARIOS)
    done = scene.build()
    assert {name for name in done.checks if name.startswith("other.tested")} == {
        "other.tested contract",
        "other.tested single_node",
        "other.tested mpi",
    }
    assert all(done.checks.values())


def test_a_scenario_that_fails_is_told_on_the_page_of_its_image(scene: Scene) -> None:
    write_image(scene.repo, "apps/other", "FROM base:1\nRUN true\n", names=SCENARIOS)
    scene.world.runner.failing.add("single-node")
    done = scene.run(ToDo(build_keys(["apps/other"]), {}))
    assert not done.result.success
    page = done.page("apps/other", "tested")
    assert page["outcome"] == "failed"
    assert "scenario 'single-node' failed: exit code 1" in page["reason"]
    assert "the accuracy is too low" in page["log"]
    states = {record.data["scenario"]: record.data["status"] for record in page["scenarios"].records}
    assert states == {"contract": "passed", "single-node": "failed", "mpi": "canceled"}
    of_tested = {name: passed for name, passed in done.checks.items() if name.startswith("other.tested")}
    assert of_tested == {"other.tested contract": True, "other.tested single_node": False}


def test_a_build_of_an_image_that_fails_is_told_on_its_page(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise BuildFailed("the command `false` failed", where="apps/other", log="+ false")

    monkeypatch.setattr(scene.world.builder, "build_and_push", fail)
    done = scene.run(ToDo(build_keys(["apps/other"]), {}))
    assert not done.result.success
    page = done.page("apps/other", "staged")
    assert "the command `false` failed" in page["reason"]
    assert "+ false" in page["log"]


def test_a_staged_image_that_was_cleaned_up_says_so_on_its_page(scene: Scene) -> None:
    """Its step was green, and its manifest is gone."""
    scene.world.runner.failing.add("runs")
    done = scene.run(ToDo(build_keys(["apps/other"]), {}))
    assert not done.result.success
    (seen,) = scene.instance.fetch_observations(asset_key("apps/other", "staged"), limit=5).records
    shown = seen.event_log_entry.asset_observation
    assert shown is not None
    assert "was cleaned up" in (shown.description or "")
    assert shown.metadata["outcome"].value == "cleaned up"
    assert str(shown.metadata["removed"].value).endswith(f"/apps:other--{done.folder.build}")


def test_a_newer_image_is_not_said_to_be_cleaned_up_with_an_older_one(scene: Scene) -> None:
    first, second = scene.build(), scene.run(ToDo(build_keys(["apps/other"]), {"force": True}))
    assert second.result.success
    report = cleanup(first.folder.build, scene.factory.backends, "expired")
    observe_removed(scene.instance, [report])
    assert scene.instance.fetch_observations(asset_key("apps/other", "staged"), limit=5).records == []
    assert scene.instance.fetch_observations(asset_key("apps/leaf", "staged"), limit=5).records


def test_scenarios_that_the_location_has_not_loaded_have_no_check_and_stop_nothing(scene: Scene) -> None:
    """A commit may have other scenarios than the one that the definitions were made from."""
    loaded = scene.definitions()
    write_image(scene.repo, "apps/other", "FROM base:1\nRUN true\n", names=("runs-too",))
    done = scene.run(ToDo(build_keys(["apps/other"]), {"docker_files_path": "images"}), definitions=loaded)
    assert done.result.success
    assert [name for name in done.checks if name.startswith("other.tested")] == []


def test_an_image_that_is_reused_has_no_build_seconds(scene: Scene) -> None:
    """In the plot of the asset they would fall to 0."""
    for is_built in (True, False):
        done = scene.run(ToDo(build_keys(["apps/other"]), {}))
        (event,) = done.result.asset_materializations_for_node("apps__other_staged")
        assert ("build_seconds" in event.metadata) is is_built
        assert event.metadata["reused"].value is not is_built


def test_what_the_page_of_runs_shows_of_a_build(scene: Scene) -> None:
    done = scene.run(ToDo(build_keys(["apps/other"]), {}))
    tags = done.record.dagster_run.tags
    shown = {name: value for name, value in tags.items() if get_tag_type(name) is TagType.USER_PROVIDED}
    assert shown == {IMAGES_TAG: "apps/other", TRIGGER_TAG: "Dagster UI", BUILD_TAG: done.folder.build}
    assert tags[QUEUE_TAG] == "builds"


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


BOTH = ("linux/amd64", "linux/arm64")


@pytest.fixture
def of_both(scene: Scene) -> Scene:
    """apps/other for two platforms, of which the test machine has the first."""
    write_image(scene.repo, "apps/other", "FROM base:1\nRUN true\n", names=SCENARIOS)
    write(scene.repo / "images/apps/other/image.json", json.dumps({"platforms": BOTH}))
    return scene


def test_an_image_for_two_platforms_shows_both_and_which_is_not_tested(of_both: Scene) -> None:
    done = of_both.build()
    assert all(done.checks.values())
    staged, tested = (
        {name: value.value for name, value in materialization.metadata.items()}
        for stage in ("staged", "tested")
        for materialization in done.result.asset_materializations_for_node(f"apps__other_{stage}")
    )
    sizes = [(row.data["platform"], row.data["size_mb"]) for row in staged["platforms"].records]
    assert [platform for platform, _ in sizes] == list(BOTH)
    assert {row.data["platform"] for row in tested["scenarios"].records} == {BOTH[0]}
    assert tested["not_tested_on"] == BOTH[1]
    shown = {check.check_name: check.description for check in done.result.get_asset_check_evaluations()}
    assert shown["mpi"] == f"{BOTH[0]}: passed in 1.0 s, in build {done.folder.build}; {BOTH[1]}: not tested"
    assert shown["platform"].startswith("linux/amd64")


def test_the_table_of_a_pull_request_names_the_platform_that_is_not_tested(of_both: Scene) -> None:
    done = of_both.build(**{PULL_REQUEST_TAG: "1"})
    tracked = Tracked(head="a" * 40, phase="requested", run=done.result.run_id, run_status="SUCCESS")
    comment = report_of(tracked, of_both.factory, of_both.instance).comment
    (row,) = [line for line in comment.splitlines() if line.startswith("| `apps/other`")]
    assert f"built, 3 tests passed, **not tested on {BOTH[1]}**" in row


def test_a_scenario_that_fails_on_one_platform_has_failed(of_both: Scene) -> None:
    of_both.world.runner.platforms.add(BOTH[1])
    of_both.world.runner.failing_on.add(("mpi", BOTH[1]))
    done = of_both.run(ToDo(build_keys(["apps/other"]), {}))
    assert not done.result.success
    page = done.page("apps/other", "tested")
    assert f"scenario 'mpi' ({BOTH[1]}) failed" in page["reason"]
    states = {record.data["scenario"]: record.data["status"] for record in page["scenarios"].records}
    assert (states[f"mpi ({BOTH[0]})"], states[f"mpi ({BOTH[1]})"]) == ("passed", "failed")
    of_tested = {name: passed for name, passed in done.checks.items() if name.startswith("other.tested")}
    assert of_tested == {"other.tested contract": True, "other.tested single_node": True, "other.tested mpi": False}
