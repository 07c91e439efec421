"""Steps as forks: real processes, real signals."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster import DagsterEventType, DagsterRunStatus

from aml_images_dagster.instance.fork_executor import Slots
from tests.forked_command import ForkedCommand
from tests.instance.jobs import POOL, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
SECONDS = 90
"""Longest wait, on a busy machine."""


class Runs:
    """Runs of the jobs, each in a process of its own, and the marks that their steps leave."""

    def __init__(self, instance: dg.DagsterInstance, marks: Path) -> None:
        self.instance = instance
        self._marks = marks
        self._processes: list[ForkedCommand] = []

    def start(self, job: str, *options: str) -> ForkedCommand:
        process = ForkedCommand(main, (job, *options), ROOT, os.environ | {"MARKS": str(self._marks)})
        self._processes.append(process)
        return process

    def finish(self, job: str, *options: str) -> dg.DagsterRun:
        self.start(job, *options).wait(SECONDS)
        return self.last()

    def last(self) -> dg.DagsterRun:
        return self.instance.get_runs(limit=1)[0]

    def mark(self, name: str) -> str:
        """A mark, once it is there."""
        until(lambda: (self._marks / name).exists(), f"no {name}")
        return (self._marks / name).read_text()

    def marks(self) -> set[str]:
        return {path.name for path in self._marks.iterdir()}

    def messages(self, kind: DagsterEventType) -> list[str]:
        records = self.instance.get_records_for_run(self.last().run_id, of_type=kind).records
        return [record.event_log_entry.user_message for record in records]

    def steps(self, kind: DagsterEventType) -> set[str | None]:
        records = self.instance.get_records_for_run(self.last().run_id, of_type=kind).records
        return {record.event_log_entry.step_key for record in records}

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def runs(instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[Runs]:
    marks = tmp_path / "marks"
    marks.mkdir()
    runs = Runs(instance, marks)
    yield runs
    runs.end()


def until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_steps_are_forks_of_the_run_and_have_logs_of_their_own(runs: Runs, instance: dg.DagsterInstance) -> None:
    run = runs.finish("placed")
    assert run.status is DagsterRunStatus.SUCCESS
    assert runs.mark("parent") == runs.mark("process")
    assert runs.mark("threads") == "1"
    assert runs.steps(DagsterEventType.STEP_SUCCESS) == {"where", "after"}
    records = instance.get_records_for_run(run.run_id, of_type=DagsterEventType.LOGS_CAPTURED).records
    keys = {
        event.logs_captured_data.step_keys[0]: event.logs_captured_data.file_key
        for record in records
        if (event := record.event_log_entry.dagster_event)
    }
    assert keys.keys() == {"where", "after"}
    manager = instance.compute_log_manager
    log = manager.get_log_data(manager.build_log_key_for_run(run.run_id, keys["where"]))
    assert log.stdout == b"printed by Python\n"
    assert b"printed by a shell\n" in (log.stderr or b"")
    assert manager.is_capture_complete(manager.build_log_key_for_run(run.run_id, keys["where"]))


def test_a_step_finds_out_its_outputs_once_however_many_dagster_asks_for(
    runs: Runs, instance: dg.DagsterInstance
) -> None:
    """Where Dagster no longer asks with each output, the executor need not keep the answer."""
    assert runs.finish("of_assets").status is DagsterRunStatus.SUCCESS
    hits, misses = map(int, runs.mark("asked").split())
    assert (hits >= 40, misses) == (True, 1)
    assert len(instance.get_asset_keys()) == 40


def test_a_step_may_make_some_of_its_outputs(runs: Runs, instance: dg.DagsterInstance) -> None:
    assert runs.finish("of_the_last_asset").status is DagsterRunStatus.SUCCESS
    assert instance.get_asset_keys() == [dg.AssetKey("asset9")]


def test_a_run_is_prepared_once_where_steps_are_forked(runs: Runs) -> None:
    run = runs.finish("prepared")
    assert run.status is DagsterRunStatus.SUCCESS
    assert runs.mark("prepared") == f"{runs.mark('process')} {run.run_id}"


@pytest.mark.parametrize("options", [(), ("thread",)])
def test_a_run_beats_as_long_as_its_steps_take_forked_or_not_and_whatever_happens(
    runs: Runs, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECONDS_OF_THE_STEP", "2")
    run = runs.finish("beating", *options)
    assert run.status is DagsterRunStatus.SUCCESS
    assert runs.mark("begun") == f"{runs.mark('process')} {run.run_id}"
    beats = runs.mark("beats").splitlines()
    assert {*beats} == {f"{runs.mark('process')} {run.run_id}"}
    assert len(beats) > 3


def test_steps_are_not_forked_where_they_should_not_be(runs: Runs) -> None:
    assert runs.finish("not_forked").status is DagsterRunStatus.SUCCESS
    assert runs.mark("parent") != runs.mark("process")


def of_the_group(pid: int, number: int) -> None:
    """As a terminal does it on Ctrl-C."""
    os.killpg(pid, number)


@pytest.mark.parametrize(
    ("send", "number"), [(os.kill, signal.SIGINT), (os.kill, signal.SIGTERM), (of_the_group, signal.SIGINT)]
)
def test_an_interrupt_of_the_run_interrupts_its_steps_once(
    runs: Runs, send: Callable[[int, int], None], number: signal.Signals
) -> None:
    process = runs.start("interrupted")
    step = int(runs.mark("began"))
    send(process.pid, number)
    process.wait(SECONDS)
    assert runs.mark("cleaned up") == "DagsterExecutionInterruptedError"
    assert not lives(step)
    assert runs.last().status is DagsterRunStatus.FAILURE
    (failure,) = runs.instance.get_records_for_run(runs.last().run_id, of_type=DagsterEventType.RUN_FAILURE).records
    event = failure.event_log_entry.dagster_event
    assert event is not None
    assert event.job_failure_data.error is not None
    assert event.job_failure_data.error.cls_name == "DagsterExecutionInterruptedError"


def test_a_step_that_does_not_end_when_it_is_interrupted_is_killed(runs: Runs) -> None:
    process = runs.start("hanging")
    step = int(runs.mark("began"))
    process.send_signal(signal.SIGINT)
    process.wait(SECONDS)
    assert not lives(step)
    assert runs.steps(DagsterEventType.STEP_FAILURE) == {"ignores_interrupts"}


def test_a_killed_step_fails_and_the_run_with_it(runs: Runs) -> None:
    process = runs.start("interrupted")
    os.kill(int(runs.mark("began")), signal.SIGKILL)
    process.wait(SECONDS)
    assert runs.last().status is DagsterRunStatus.FAILURE
    assert runs.steps(DagsterEventType.STEP_FAILURE) == {"sleeps"}
    assert any("signal 9" in message for message in runs.messages(DagsterEventType.ENGINE_EVENT))


def test_steps_are_interrupted_when_the_process_of_their_run_is_killed(runs: Runs) -> None:
    process = runs.start("interrupted")
    step = int(runs.mark("began"))
    process.kill()
    process.wait(SECONDS)
    assert runs.mark("cleaned up") == "DagsterExecutionInterruptedError"
    until(lambda: not lives(step), "the step goes on")


def test_a_step_that_ends_without_a_word_has_failed(runs: Runs) -> None:
    assert runs.finish("silent").status is DagsterRunStatus.FAILURE
    assert runs.steps(DagsterEventType.STEP_FAILURE) == {"leaves_without_a_word"}
    assert "after" not in runs.marks()


def test_retry_policies_are_followed_after_an_error_and_after_a_kill(runs: Runs) -> None:
    assert runs.finish("retrying").status is DagsterRunStatus.SUCCESS
    assert runs.steps(DagsterEventType.STEP_UP_FOR_RETRY) == {"retried", "killed_once"}
    assert runs.steps(DagsterEventType.STEP_RESTARTED) == {"retried", "killed_once"}


def test_hooks_run_and_a_failed_run_is_executed_again_from_its_failure(runs: Runs) -> None:
    failed = runs.finish("failing")
    assert failed.status is DagsterRunStatus.FAILURE
    assert runs.mark("hook") == "fails_once"
    assert "after" not in runs.marks()
    again = runs.finish("failing", failed.run_id)
    assert again.status is DagsterRunStatus.SUCCESS
    assert again.parent_run_id == failed.run_id
    assert runs.steps(DagsterEventType.STEP_SUCCESS) == {"fails_once", "after"}


@pytest.mark.parametrize(("job", "first", "tries"), [("failing_fast", "fails_twice", 2), ("dying_fast", "dies", 0)])
def test_after_a_failure_nothing_else_is_started_and_what_runs_comes_to_its_end(
    runs: Runs, job: str, first: str, tries: int
) -> None:
    run = runs.finish(job)
    assert run.status is DagsterRunStatus.FAILURE
    assert runs.steps(DagsterEventType.STEP_FAILURE) == {first}
    assert runs.steps(DagsterEventType.STEP_SUCCESS) == {"outlasts"}
    assert len([mark for mark in runs.marks() if mark.startswith("tried")]) == tries
    (failure,) = runs.instance.get_records_for_run(run.run_id, of_type=DagsterEventType.RUN_FAILURE).records
    assert f"Step {first} failed, so no other step was started" in str(failure.event_log_entry.dagster_event)


def test_a_pool_holds_for_steps_of_several_runs(runs: Runs, instance: dg.DagsterInstance) -> None:
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    processes = [runs.start("pooled") for _ in range(3)]
    said = [process.communicate(timeout=SECONDS) for process in processes]
    times = sorted(tuple(map(float, runs.mark(name).split())) for name in runs.marks() if name.startswith("alone-"))
    assert len(times) == len(processes), said
    for (_, end), (begin, _) in itertools.pairwise(times):
        assert end <= begin
    assert instance.event_log_storage.get_concurrency_info(POOL).active_slot_count == 0


def test_one_step_of_a_run_waits_in_each_pool_and_takes_what_another_leaves(instance: dg.DagsterInstance) -> None:
    for pool in (POOL, "another"):
        instance.event_log_storage.set_concurrency_slots(pool, 1)
    with Slots(instance, dg.DagsterRun("of_many_steps")) as slots:
        assert [slots.claim(POOL, step) for step in ("one", "two", "three")] == [True, False, False]
        assert instance.event_log_storage.get_concurrency_info(POOL).pending_step_count == 1
        assert slots.claim("another", "four")
        slots.free_step("one")
        assert [slots.claim(POOL, step) for step in ("three", "two", "three")] == [False, True, False]
        slots.free_step("two")
        assert slots.claim(POOL, "three")
    assert instance.event_log_storage.get_concurrency_info(POOL).pending_step_count == 0


def test_a_run_that_starts_nothing_more_leaves_its_slots_to_others(instance: dg.DagsterInstance) -> None:
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    with (
        Slots(instance, dg.DagsterRun("failing")) as slots,
        Slots(instance, dg.DagsterRun("another")) as others,
    ):
        assert [slots.claim(POOL, step) for step in ("one", "two")] == [True, False]
        slots.wait_no_more()
        slots.free_step("one")
        assert others.claim(POOL, "three")


@pytest.mark.parametrize("job", ["crowded", "crowded_not_forked"])
def test_a_full_pool_leaves_the_other_places_of_a_run_to_other_steps(
    runs: Runs, instance: dg.DagsterInstance, job: str
) -> None:
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    assert runs.finish(job).status is DagsterRunStatus.SUCCESS
    assert {int(runs.mark(name)) for name in runs.marks() if name.startswith("makes-")} <= {0, 1}


def test_a_killed_step_gives_its_slot_back(runs: Runs, instance: dg.DagsterInstance) -> None:
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    process = runs.start("pooled_sleep")
    os.kill(int(runs.mark("began")), signal.SIGKILL)
    process.wait(SECONDS)
    assert instance.event_log_storage.get_concurrency_info(POOL).active_slot_count == 0


def test_a_process_with_another_thread_does_not_fork(runs: Runs) -> None:
    assert runs.finish("placed", "thread").status is DagsterRunStatus.SUCCESS
    assert runs.mark("parent") != runs.mark("process")
    assert any("another" in message for message in runs.messages(DagsterEventType.ENGINE_EVENT))
