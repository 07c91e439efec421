"""The servers that runs and steps are forked from, and how their forks end: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster import fork_server
from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = """
import json, multiprocessing, os, sys, time
from multiprocessing import forkserver
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(json.loads(sys.argv[1]))
sleeping = context.Process(target=time.sleep, args=(300,))
sleeping.start()
print(json.dumps([forkserver._forkserver._forkserver_pid, sleeping.pid]), flush=True)
sys.stdin.readline()
sleeping.join(60)
print(json.dumps(sleeping.exitcode), flush=True)
"""


class User:
    """A process that has let a server fork another one, which sleeps."""

    def __init__(self, preload: list[str], folder: Path) -> None:
        command = [sys.executable, "-W", "ignore", "-c", USER, json.dumps(preload)]
        # Another test of this process may have loaded the definitions of its own repository, for all that it starts.
        environment = {name: value for name, value in os.environ.items() if name != "AML_IMAGES_PINNED_CATALOG"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.server, self.fork = self._said()

    def _said(self) -> list[int]:
        assert self.process.stdout is not None
        said: list[int] = json.loads(self.process.stdout.readline())
        return said

    def exit_code(self) -> int:
        """Of the fork, as it learns it."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@pytest.fixture(params=["runs", "steps"])
def user(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[User]:
    preload = {"runs": fork_server.FOR_RUNS, "steps": fork_server.FOR_STEPS}[request.param]
    user = User(preload, ImageRepository.create(tmp_path / "repository").root)
    yield user
    user.process.kill()
    user.process.communicate()


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() != b""


def test_a_server_has_one_thread_and_its_forks_end_as_other_processes(user: User) -> None:
    assert len([*Path(f"/proc/{user.server}/task").iterdir()]) == 1  # a lock of another one could stay locked in a fork
    os.kill(user.server, signal.SIGTERM)  # as one of the whole process group
    os.kill(user.fork, signal.SIGTERM)
    assert user.exit_code() == -signal.SIGTERM


def test_no_fork_lives_on_when_its_server_is_killed(user: User) -> None:
    os.kill(user.server, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while lives(user.fork):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert user.exit_code() == 255  # which Dagster takes for dead


def test_a_fork_lives_on_when_who_has_started_it_is_killed(user: User) -> None:
    user.process.kill()
    user.process.wait()
    time.sleep(1)
    assert lives(user.fork)
    os.kill(user.fork, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while lives(user.server):  # it has nobody left to serve
        assert time.monotonic() < deadline
        time.sleep(0.05)
