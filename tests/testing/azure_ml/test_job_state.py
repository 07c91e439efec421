"""Case C8: time is counted from where it counts, without a clock and a service."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.testing.azure_ml.job_state import ENDS, Evaluation, JobState, Timeouts

TIMEOUTS = Timeouts(queue_seconds=3600, silent_seconds=600, cancel_seconds=120)
HOUR = 3600.0


def seen(*history: tuple[str, float], timeout_seconds: float = HOUR) -> JobState:
    """A job after these statuses, none of which was a reason to cancel it but the last."""
    state = JobState(timeout_seconds, TIMEOUTS, 0)
    for index, (status, now) in enumerate(history):
        assert index == 0 or not state.give_up(now - 1), f"given up before it was {status}"
        state.see(status, now)
    return state


def test_c8_a_job_whose_node_was_taken_away_waits_for_another_one() -> None:
    state = seen(("Queued", 0), ("Running", 300), ("Queued", 3660))
    assert not state.give_up(3660)
    assert not state.give_up(3660 + HOUR)
    assert state.give_up(3661 + HOUR)
    state.see("Canceled", 3670 + HOUR)
    reason = "did not run again within 60 min: Queued"
    assert state.evaluation(3670 + HOUR) == Evaluation("timed out", reason)


def test_c8_the_time_of_a_job_counts_from_its_last_start() -> None:
    state = seen(("Running", 300), ("Queued", 3660), ("Running", 7000), ("Finalizing", 7000 + HOUR))
    assert state.running_seconds(7010) == 10
    assert not state.give_up(7000 + HOUR)
    assert state.give_up(7001 + HOUR)


def test_c8_one_wait_has_many_statuses() -> None:
    state = seen(("NotStarted", 0), ("Preparing", 1000), ("Queued", 2000), ("Starting", 3500))
    assert not state.give_up(HOUR)
    assert state.give_up(HOUR + 1)


def test_c8_a_job_that_is_silent_for_a_moment_was_not_taken_away() -> None:
    running = seen(("Running", 0), ("NotResponding", 3000), ("Running", 3500))
    assert running.running_seconds(3500) == 3500
    assert running.give_up(HOUR + 1)
    queued = seen(("Queued", 0), ("Unknown", 3000), ("Queued", 3500))
    assert queued.give_up(HOUR + 1)


def test_c8_silence_in_different_words_is_one_silence() -> None:
    state = seen(("Queued", 0), ("NotResponding", 100), ("Unknown", 600), ("SomethingNew", 690))
    assert not state.give_up(700)
    assert state.give_up(701)


def test_c8_silence_after_a_sign_of_life_is_another_one() -> None:
    state = seen(("Running", 0), ("NotResponding", 100), ("Running", 600), ("NotResponding", 650))
    assert not state.give_up(1250)
    assert state.give_up(1251)


def test_c8_a_job_that_never_keeps_its_nodes_ends() -> None:
    state = JobState(HOUR, TIMEOUTS, 0)
    now, starts = 0.0, 0
    while not state.give_up(now):
        now += 60
        state.see("Running" if state.status == "Queued" else "Queued", now)
        starts += state.status == "Running"
    assert starts == 10
    state.see("Canceled", now)
    assert state.evaluation(now) == Evaluation("failed", "its nodes were taken away 10 times")


@pytest.mark.parametrize("words", [("CancelRequested",), ("CancelRequested", "NotResponding", "CancelRequested")])
def test_c8_cancellation_by_others_is_waited_for_from_its_last_word(words: tuple[str, ...]) -> None:
    state = seen(("Running", 0), *((word, 100.0 + index) for index, word in enumerate(words)))
    last = 100.0 + len(words) - 1
    assert state.evaluation(last + 120) is None
    assert state.evaluation(last + 121) == Evaluation("canceled", "still CancelRequested 2 min after it was canceled")


STATUSES = ["NotStarted", "Preparing", "Queued", "Running", "Finalizing", "NotResponding", "Paused", "CancelRequested"]


@given(st.lists(st.tuples(st.sampled_from(STATUSES), st.floats(1, 5000)), max_size=200))
def test_c8_no_job_is_followed_without_end(history: list[tuple[str, float]]) -> None:
    """Whatever is said of it: some day it has ended or is canceled, and then it is reported."""
    state, now = JobState(HOUR, TIMEOUTS, 0), 0.0
    for status, passed in history:
        now += passed
        state.see(status, now)
        if state.give_up(now) or state.evaluation(now):
            break
    later = now + 2 * HOUR
    state.give_up(later)
    assert state.evaluation(later) or state.evaluation(later + TIMEOUTS.cancel_seconds + 1)
    state.see("Completed", later + HOUR)
    assert state.evaluation(later + HOUR)
    assert ENDS["Completed"] == "passed"
