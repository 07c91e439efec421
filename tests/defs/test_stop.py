"""A step ends with its build, whatever it waits for."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.defs import stop
from aml_images_dagster.defs.stop import stopped_with
from aml_images_dagster.errors import BuildStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aml_images_dagster.builds.session import BuildSession

SOON = 20


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Where tests run in the background, SIGINT is ignored; in a step Dagster handles it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def session(new_session: Callable[..., BuildSession], monkeypatch: pytest.MonkeyPatch) -> BuildSession:
    monkeypatch.setattr(stop, "_SECONDS", 0.1)
    session = new_session("apps/other")
    session.begin()
    return session


def wait() -> None:
    threading.Event().wait(SOON)


def test_a_step_is_interrupted_when_the_build_fails_elsewhere(session: BuildSession) -> None:
    started = time.monotonic()
    elsewhere = threading.Timer(0.3, session.folder.finish, ("failed",))
    elsewhere.start()
    with (
        pytest.raises(BuildStopped, match=f"build {session.number} was stopped: its status is failed"),
        stopped_with(session),
    ):
        wait()
    assert time.monotonic() - started < SOON


def test_what_a_step_has_begun_is_ended_by_the_interrupt(session: BuildSession) -> None:
    ended = []
    session.folder.finish("canceled")
    with pytest.raises(BuildStopped), stopped_with(session):
        try:
            wait()
        finally:
            ended.append("job")
    assert ended == ["job"]


def test_a_record_that_cannot_be_read_for_a_moment_stops_nothing(session: BuildSession) -> None:
    path = session.folder.root / "build.json"
    record, waited = path.read_bytes(), False
    with pytest.raises(BuildStopped), stopped_with(session):
        path.write_bytes(b"{")
        time.sleep(0.5)
        waited = True
        path.write_bytes(record)
        session.folder.finish("failed")
        wait()
    assert waited


def test_a_step_that_fails_by_itself_says_so(session: BuildSession) -> None:
    with pytest.raises(ValueError, match="its own"), stopped_with(session):
        raise ValueError("its own")


def test_nothing_comes_after_the_end_of_the_step(session: BuildSession) -> None:
    with stopped_with(session):
        pass
    session.folder.finish("failed")
    time.sleep(0.5)


def test_other_threads_go_on(session: BuildSession) -> None:
    session.folder.finish("failed")
    done = []

    def step() -> None:
        with suppress(BaseException), stopped_with(session):
            time.sleep(0.5)
            done.append(True)

    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    assert done
