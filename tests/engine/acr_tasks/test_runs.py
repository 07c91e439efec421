"""Case C8: the time of a run counts from when an agent has it, without a clock and a service."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.engine.acr_tasks import runs
from aml_images_dagster.errors import BuildFailed

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Follows a run that has each status for so many seconds and then succeeds; it may run for 100."""

    def play(*statuses: tuple[str, float]) -> Any:
        now = [0.0]
        canceled: list[str] = []

        def get(*_: str) -> Any:
            ends = itertools.accumulate(seconds for _, seconds in statuses)
            status = next(
                (status for (status, _), end in zip(statuses, ends, strict=True) if now[0] < end), "Succeeded"
            )
            return SimpleNamespace(properties=SimpleNamespace(run_id="ca1", status="Canceled" if canceled else status))

        clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
        monkeypatch.setattr(runs, "time", clock)
        monkeypatch.setattr(
            runs, "RunLog", lambda *_: SimpleNamespace(read_on=lambda: None, finish=lambda: "the end of the log")
        )
        client = SimpleNamespace(runs=SimpleNamespace(get=get, cancel=lambda *names: canceled.append(names[-1])))
        ours = runs.TaskRuns(client, "group", "registry", poll_seconds=10, cancel_seconds=10)  # type: ignore[arg-type]
        return ours.follow("ca1", "registry/tag", 100, print, lambda: None, ())

    return play


def test_c8_a_run_that_waited_for_an_agent_has_its_whole_time(follow: Callable[..., Any]) -> None:
    assert follow(("Queued", 50), ("Started", 45), ("Running", 95)).status == "Succeeded"


def test_c8_a_run_is_stopped_at_its_deadline(follow: Callable[..., Any]) -> None:
    with pytest.raises(BuildFailed, match="stopped at its deadline of 100 s"):
        follow(("Queued", 50), ("Running", 101))


def test_c8_a_run_that_no_agent_takes_is_canceled(follow: Callable[..., Any]) -> None:
    with pytest.raises(BuildFailed, match="waited 100 s for an agent and was canceled") as failed:
        follow(("Queued", 1000))
    assert failed.value.log == "the end of the log"


def test_c8_a_run_that_ends_just_before_its_deadline_has_ended(follow: Callable[..., Any]) -> None:
    assert follow(("Running", 99)).status == "Succeeded"
