"""Whether a run on another machine lives: by what it writes into the instance, not by the number of its process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.process import this_process
from aml_images_dagster.defs.run_state import PROCESS_TAG, InstanceRuns, process_of, process_tag
from aml_images_dagster.instance.heartbeat import beat, is_silent, seconds_between_beats

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 300.0
ELSEWHERE = "another-host:machine:boot:4026531836:1:1"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run_of(instance: dg.DagsterInstance, process: str) -> str:
    run = instance.create_run_for_job(dg.GraphDefinition("build").to_job(), tags={PROCESS_TAG: process})
    instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, "build"), run_id=run.run_id)
    return run.run_id


def test_a_run_that_beats_lives(instance: dg.DagsterInstance, clock: Clock) -> None:
    for _ in range(100):
        beat(instance, "run")
        clock.now += seconds_between_beats(PATIENCE)
        assert not is_silent(instance, "run", PATIENCE)


def test_silence_counts_once_it_was_noticed_and_goes_on(instance: dg.DagsterInstance, clock: Clock) -> None:
    beat(instance, "run")
    clock.now += PATIENCE + 1
    assert not is_silent(instance, "run", PATIENCE)
    clock.now += 59
    assert not is_silent(instance, "run", PATIENCE)
    clock.now += 2
    assert is_silent(instance, "run", PATIENCE)


def test_whoever_is_back_first_after_an_outage_of_the_database_takes_nobody_for_dead(
    instance: dg.DagsterInstance, clock: Clock
) -> None:
    beat(instance, "run")
    clock.now += 20 * PATIENCE
    assert not is_silent(instance, "run", PATIENCE)
    beat(instance, "run")
    clock.now += PATIENCE - 1
    assert not is_silent(instance, "run", PATIENCE)
    clock.now += 2
    assert not is_silent(instance, "run", PATIENCE), "this silence is another one"


def test_a_run_that_has_never_beaten_is_not_silent(instance: dg.DagsterInstance, clock: Clock) -> None:
    for _ in range(3):
        clock.now += 20 * PATIENCE
        assert not is_silent(instance, "run", PATIENCE), "an earlier version executes it"


@pytest.mark.parametrize("process", [this_process() + "1", ELSEWHERE], ids=["here", "elsewhere"])
def test_a_run_that_executes_a_dead_one_again_has_its_tags_and_not_its_process(
    process: str, instance: dg.DagsterInstance, clock: Clock
) -> None:
    dead = instance.get_run_by_id(run_of(instance, ""))
    assert dead is not None
    tags = process_tag(dead, process)
    again = instance.get_run_by_id(run_of(instance, tags[PROCESS_TAG]))
    assert again is not None
    clock.now += 20 * PATIENCE
    assert process_of(again) == ""
    assert InstanceRuns(instance, PATIENCE).state(again.run_id) == "alive"
    assert InstanceRuns(instance, PATIENCE).dead() == []
    instance.add_run_tags(again.run_id, process_tag(again, process))
    tagged = instance.get_run_by_id(again.run_id)
    assert tagged is not None
    assert process_of(tagged) == f"{process}:{again.run_id}"


@pytest.mark.parametrize(
    ("process", "state"),
    [(ELSEWHERE, "failed"), ("", "failed"), (this_process(), "alive")],
    ids=["elsewhere", "unnamed", "here"],
)
def test_a_process_that_is_seen_decides_itself_and_every_other_one_by_its_silence(
    process: str, state: str, instance: dg.DagsterInstance, clock: Clock
) -> None:
    runs, run_id = InstanceRuns(instance, PATIENCE), run_of(instance, process)
    beat(instance, run_id)
    assert runs.state(run_id) == "alive"
    for _ in range(2):
        clock.now += PATIENCE
        found = runs.state(run_id)
    assert found == state


def test_the_run_of_a_dead_host_is_reported_as_failed_when_somebody_asks_why(
    instance: dg.DagsterInstance, clock: Clock
) -> None:
    runs, run_id = InstanceRuns(instance, PATIENCE), run_of(instance, ELSEWHERE)
    beat(instance, run_id)
    for _ in range(2):
        clock.now += PATIENCE
        failure = runs.failure(run_id)
    assert failure is not None
    assert failure.message == "The process that executed the run is gone."
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE
