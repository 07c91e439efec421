"""The files of `schedules/` in Dagster: what a tick asks for, the Patch Tuesday trap, and files that are wrong."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.test_utils import freeze_time

from aml_images_dagster.defs.keys import BUILD_JOB, asset_key
from aml_images_dagster.defs.request import RESOURCE, build_keys, pull_request_keys
from aml_images_dagster.errors import BadInput
from aml_images_dagster.settings import load_settings
from tests.image_repository import ImageRepository
from tests.pull_requests.remote_repository import RemoteRepository
from tests.test_schedules import second_wednesdays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

PACIFIC = ZoneInfo("America/Los_Angeles")
PATCH_DAY = """\
name: patch_day
description: Windows images.
cron: 0 9 * * 3#2
timezone: America/Los_Angeles
selection: {os: windows}
force: true
release: approval
after_patch_tuesday: true
stale_after_days: 37
"""
NIGHTLY = "name: nightly\ndescription: All.\ncron: 0 3 * * *\ntimezone: UTC\nselection: {images: [tools/*]}\n"
BROKEN = PATCH_DAY.replace("timezone:", "time_zone:")
WINDOWS = "FROM mcr.microsoft.com/windows/servercore:ltsc2022\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageRepository:
    for name in os.environ:
        if name.startswith(("AML_IMAGES_", "DAGSTER_")):
            monkeypatch.delenv(name)
    repository = ImageRepository.create(tmp_path / "repository")
    repository.write_image("tools/windows", WINDOWS)
    monkeypatch.setenv("AML_IMAGES_REPO", str(repository.root))
    return repository


@pytest.fixture
def load(repository: ImageRepository) -> Callable[..., dg.Definitions]:
    """Commits some schedules and loads what Dagster loads."""

    def load(**files: str) -> dg.Definitions:
        for name, text in files.items():
            repository.write(repository.root / "schedules" / f"{name}.yaml", text)
        repository.commit("schedules")
        from aml_images_dagster.definitions import definitions

        return definitions(load_settings(docker_host="unix:///nowhere.sock"))

    return load


def tick(definitions: dg.Definitions, when: datetime, instance: dg.DagsterInstance | None = None) -> Any:
    with ExitStack() as ended:
        instance = instance or ended.enter_context(dg.instance_for_test())
        context = ended.enter_context(dg.build_schedule_context(instance=instance, scheduled_execution_time=when))
        return definitions.resolve_schedule_def("patch_day_schedule")(context)


def test_a_file_is_a_schedule(load: Callable[..., dg.Definitions]) -> None:
    definitions = load(patch_day=PATCH_DAY, nightly=NIGHTLY)
    schedules = {schedule.name: schedule for schedule in definitions.schedules or ()}
    assert set(schedules) == {"patch_day_schedule", "nightly_schedule"}
    patch_day = schedules["patch_day_schedule"]
    assert isinstance(patch_day, dg.ScheduleDefinition)
    assert (patch_day.cron_schedule, patch_day.execution_timezone) == ("0 9 * * 3#2", "America/Los_Angeles")
    assert patch_day.job_name == BUILD_JOB
    assert patch_day.default_status is dg.DefaultScheduleStatus.STOPPED
    assert str(patch_day.description) == "Windows images. (schedules/patch_day.yaml)"


def test_a_tick_builds_the_windows_images_forced_from_the_main_branch(
    repository: ImageRepository, load: Callable[..., dg.Definitions]
) -> None:
    request = tick(load(patch_day=PATCH_DAY), datetime(2026, 11, 11, 9, tzinfo=PACIFIC))
    assert isinstance(request, dg.RunRequest)
    assert request.asset_selection == build_keys(["tools/windows"])
    assert request.run_config["resources"][RESOURCE]["config"] == {
        "release_num": 1,
        "force": True,
        "source_commit": repository.git("rev-parse", "main"),
        "reasons": {"tools/windows": ["schedule patch_day"]},
    }
    assert request.tags["aml-images/trigger"] == "schedule"
    assert request.tags["aml-images/schedule"] == "patch_day"
    assert request.tags["aml-images/release-rule"] == "approval"
    assert request.tags["aml-images/release-by"] == "2026-11-12T00:00:00-08:00"
    assert "aml-images/warning" not in request.tags


@pytest.mark.parametrize("automation", ["on", "off"])
def test_before_patch_tuesday_it_warns_and_names_the_follow_up(
    load: Callable[..., dg.Definitions], monkeypatch: pytest.MonkeyPatch, automation: str
) -> None:
    monkeypatch.setenv("AML_IMAGES_AUTOMATION", automation)
    with dg.instance_for_test() as instance:
        request = tick(load(patch_day=PATCH_DAY), datetime(2026, 4, 8, 9, tzinfo=PACIFIC), instance)
    follow_up = {
        "on": "the sensor upstream_bases builds again when the new bases are there",
        "off": "switch on the sensor upstream_bases to have it built again when the new bases are there",
    }
    assert request.tags["aml-images/warning"] == (
        f"before Patch Tuesday: this month's Windows updates come Tuesday 14 April 10:00 PDT; {follow_up[automation]}"
    )


def test_every_trapped_month_warns(load: Callable[..., dg.Definitions]) -> None:
    definitions = load(patch_day=PATCH_DAY)
    with dg.instance_for_test() as instance:
        for when in second_wednesdays("America/Los_Angeles", 9)[:24]:
            warned = "aml-images/warning" in tick(definitions, when, instance).tags
            assert warned is (when.day == 8), when


def test_no_image_left_is_said(repository: ImageRepository, load: Callable[..., dg.Definitions]) -> None:
    definitions = load(patch_day=PATCH_DAY)
    repository.write_image("tools/windows", "FROM busybox\n")
    repository.commit("no Windows any more")
    skipped = tick(definitions, datetime(2026, 11, 11, 9, tzinfo=PACIFIC))
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "schedules/patch_day.yaml selects no image of the main branch"


def test_an_image_that_came_to_main_since_is_left_out_until_the_reload(
    repository: ImageRepository, load: Callable[..., dg.Definitions]
) -> None:
    definitions = load(patch_day=PATCH_DAY)
    repository.write_image("tools/newer", WINDOWS)
    repository.commit("one more")
    request = tick(definitions, datetime(2026, 11, 11, 9, tzinfo=PACIFIC))
    assert request.asset_selection == build_keys(["tools/windows"])


def test_a_bad_file_takes_no_schedule_down_and_shows(
    repository: ImageRepository, load: Callable[..., dg.Definitions]
) -> None:
    definitions = load(bad=BROKEN, nightly=NIGHTLY)
    assert [schedule.name for schedule in definitions.schedules or ()] == ["nightly_schedule"]
    (sensor,) = [sensor for sensor in definitions.sensors or () if sensor.name == "schedule_files"]
    told = 'schedules/bad.yaml:4: error: unknown key "time_zone"; did you mean "timezone"?'
    assert told in str(sensor.description)
    with pytest.raises(BadInput, match="unknown key"):
        sensor(dg.build_sensor_context())
    repository.write(repository.root / "schedules" / "bad.yaml", PATCH_DAY)
    repository.commit("fixed")


def test_new_files_are_noticed(repository: ImageRepository, load: Callable[..., dg.Definitions]) -> None:
    definitions = load(nightly=NIGHTLY)
    (sensor,) = [sensor for sensor in definitions.sensors or () if sensor.name == "schedule_files"]
    assert sensor(dg.build_sensor_context()).skip_message == "1 files, nothing wrong"  # type: ignore[union-attr]
    repository.write(repository.root / "schedules" / "patch_day.yaml", PATCH_DAY)
    told = "files have changed: reload the code location to apply them"
    assert sensor(dg.build_sensor_context()).skip_message == told  # type: ignore[union-attr]


def test_every_default_status_follows_the_setting(
    load: Callable[..., dg.Definitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AML_IMAGES_AUTOMATION", "on")
    definitions = load(patch_day=PATCH_DAY)
    for each in [*(definitions.sensors or ()), *(definitions.schedules or ())]:
        assert each.default_status.value == "RUNNING", each.name  # type: ignore[union-attr]


def test_a_remote_that_does_not_answer_delays_no_build(
    repository: ImageRepository, load: Callable[..., dg.Definitions]
) -> None:
    definitions = load(patch_day=PATCH_DAY)
    remote = RemoteRepository.create(repository.root.parent, repository)
    known = remote.author.git("rev-parse", "main")
    tick(definitions, datetime(2026, 11, 11, 9, tzinfo=PACIFIC))  # fetches it
    remote.bare.rename(remote.bare.with_name("away"))
    request = tick(definitions, datetime(2026, 12, 9, 9, tzinfo=PACIFIC))
    assert request.run_config["resources"][RESOURCE]["config"]["source_commit"] == known
    warning = f"built from {known[:8]}, the main branch as it was fetched last: "
    assert request.tags["aml-images/warning"].startswith(warning)


# Freshness


def states(
    load: Callable[..., dg.Definitions],
    built: list[datetime],
    looked: list[datetime],
    pull_requests: Iterable[datetime] = (),
) -> list[FreshnessState]:
    """What Dagster's own evaluator says at some moments, after builds at others."""
    node = load(patch_day=PATCH_DAY).resolve_asset_graph().get(asset_key("tools/windows", "import_cfg"))
    whole, part = build_keys(["tools/windows"]), pull_request_keys(["tools/windows"])
    found = []
    with dg.DagsterInstance.ephemeral() as instance:
        waiting = sorted([*((moment, whole) for moment in built), *((moment, part) for moment in pull_requests)])
        for moment in looked:
            while waiting and waiting[0][0] <= moment:
                when, keys = waiting.pop(0)
                with freeze_time(when):
                    for key in keys:
                        instance.report_runless_asset_event(dg.AssetMaterialization(key))
            with freeze_time(moment):
                found.append(_evaluate(instance, node))
    return found


def _evaluate(instance: dg.DagsterInstance, node: Any) -> FreshnessState:
    from dagster._core.loader import LoadingContextForTest

    async def evaluate() -> FreshnessState:
        return await TimeWindowFreshnessPolicyEvaluator().evaluate_freshness(LoadingContextForTest(instance), node)

    return asyncio.run(evaluate())


def test_freshness_does_not_flap_and_notices_a_missing_month(load: Callable[..., dg.Definitions]) -> None:
    """Two years of monthly builds of changing length, looked at when new and when oldest; then one is missing."""
    days = second_wednesdays("America/Los_Angeles", 9)[:25]
    built = [day.astimezone(UTC) + timedelta(hours=number * 7 % 23) for number, day in enumerate(days[:-1])]
    last, second = built[-1], timedelta(seconds=1)
    looked = [moment for this, following in pairwise(built) for moment in (this + second, following - second)]
    late = [last + timedelta(days=36.9), last + timedelta(days=37.1), last + timedelta(days=300)]
    found = states(load, built, [*looked, *late])
    assert set(found[: len(looked) + 1]) == {FreshnessState.PASS}
    assert set(found[len(looked) + 1 :]) == {FreshnessState.FAIL}


@pytest.mark.parametrize(("again", "state"), [([], FreshnessState.FAIL), ([20], FreshnessState.PASS)])
def test_a_build_of_a_pull_request_does_not_hide_a_missing_month(
    load: Callable[..., dg.Definitions], again: list[int], state: FreshnessState
) -> None:
    first = datetime(2026, 11, 11, 17, tzinfo=UTC)
    built = [first + timedelta(days=days) for days in (0, *again)]
    proposed = [first + timedelta(days=days) for days in (20, 36)]
    looked = [first + timedelta(days=days) for days in (36.9, 37.1)]
    assert states(load, built, looked, proposed) == [FreshnessState.PASS, state]


def test_only_the_scheduled_images_have_a_policy(load: Callable[..., dg.Definitions]) -> None:
    graph = load(patch_day=PATCH_DAY).resolve_asset_graph()
    with_policy = {node.key for node in graph.asset_nodes if node.freshness_policy_or_from_metadata}
    assert with_policy == {asset_key("tools/windows", "import_cfg")}
