"""Whether a process lives."""

import os
import signal
import subprocess

import pytest

from aml_images_dagster.builds import process
from aml_images_dagster.builds.process import is_dead, is_seen_from_here, named, this_process


def test_this_process_lives():
    assert not is_dead(this_process())


def test_a_killed_process_that_nobody_waits_for_is_dead():
    child = subprocess.Popen(["sleep", "60"])
    process = named(child.pid)
    assert not is_dead(process)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(process)
    child.wait()
    assert is_dead(process)


def test_another_process_with_the_same_number_is_not_meant():
    assert is_dead(f"{this_process()}1")


@pytest.mark.parametrize(("seen", "dead"), [("1", False), ("2", True), ("", False)], ids=["it", "another", "hidden"])
def test_a_process_of_another_user_is_known_by_its_start(seen: str, dead: bool, monkeypatch: pytest.MonkeyPatch):
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(process, "_started", lambda pid: seen)
    assert is_dead(elsewhere()) is dead


@pytest.mark.parametrize("process", ["", "elsewhere.example:boot:1:1", "nonsense"])
def test_what_can_not_be_told_is_not_dead(process):
    assert not is_dead(process)


ANOTHER_BOOT = "00000000-0000-0000-0000-000000000000"


def elsewhere(**parts: str) -> str:
    """The name of a process that has ended, with other words in some of its parts."""
    names = ("host", "machine", "boot", "namespace", "pid", "started")
    ended = dict(zip(names, this_process().split(":"), strict=True)) | {"started": "1"}
    return ":".join((ended | parts).values())


def test_a_process_of_an_earlier_start_of_the_machine_is_dead(monkeypatch: pytest.MonkeyPatch):
    assert is_dead(elsewhere(machine="", boot=ANOTHER_BOOT)) is False, "another machine may have the same name"
    monkeypatch.setattr(process, "_here", lambda: "host:machine:boot:4026531836")
    assert is_dead(f"host:machine:{ANOTHER_BOOT}:4026531836:1:1")
    assert is_dead(f"host:another:{ANOTHER_BOOT}:4026531836:1:1") is False


def test_containers_of_one_image_on_two_machines_are_not_one_machine_that_was_started_again(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(process, "_here", lambda: "host:machine:boot:4026532201")
    assert is_dead(f"host:machine:{ANOTHER_BOOT}:4026532201:1:1") is False
    assert is_dead(f"host:machine:{ANOTHER_BOOT}:4026531836:1:1") is False


def test_a_process_of_another_container_with_the_same_host_name_is_not_dead():
    assert is_dead(elsewhere())
    assert is_seen_from_here(elsewhere())
    assert not is_dead(elsewhere(namespace="1"))


@pytest.mark.parametrize("part", ["host", "machine", "boot", "namespace"])
def test_a_process_elsewhere_is_not_seen_from_here(part: str):
    assert not is_seen_from_here(elsewhere(**{part: "another"}))
