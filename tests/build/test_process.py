"""Whether a process lives."""

import os
import signal
import subprocess

import pytest

from aml_images_dagster.build.process import is_dead, named, this_process


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


@pytest.mark.parametrize("process", ["", "elsewhere.example:boot:1:1", "nonsense"])
def test_what_can_not_be_told_is_not_dead(process):
    assert not is_dead(process)


def test_a_process_of_an_earlier_start_of_the_machine_is_dead():
    host, _, pid, started = this_process().split(":")
    assert is_dead(f"{host}:00000000-0000-0000-0000-000000000000:{pid}:{started}")
