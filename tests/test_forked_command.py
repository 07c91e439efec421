"""A forked command beside a process of Python's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.forked_command import ForkedCommand

ROOT = Path(__file__).parents[1]


def loaded() -> None:
    print(*sys.modules, sep="\n")


def tells() -> None:
    print(sys.argv[1:], sys.stdin.read(), Path.cwd(), os.getsid(0) == os.getpid())
    print(*sorted(os.environ.items()), sep="\n")
    print("an error", file=sys.stderr)
    os.system("echo of a shell")
    sys.exit(7)


def leaves_one_behind() -> None:
    subprocess.Popen(["sh", "-c", "sleep 2; echo late"])
    print("x" * 1_000_000)  # more than a pipe holds


def raises() -> None:
    raise ValueError("unexpected")


def sleeps() -> None:
    time.sleep(60)


def test_the_server_has_imported_what_commands_need() -> None:
    """It hides an import that fails."""
    out, _ = ForkedCommand(loaded, (), ROOT, os.environ).communicate(60)
    assert "tests.preload" in out.splitlines()  # one that fails half-way is not there


def test_it_is_as_a_process_that_python_has_just_started(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "ONLY": "this", "LC_CTYPE": "C.UTF-8"}
    command = ForkedCommand(tells, ("an argument",), tmp_path, environment)
    out, err = command.communicate(60)
    other = subprocess.run(
        [sys.executable, "-c", "from tests.test_forked_command import tells; tells()", "an argument"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert "of a shell" in out
    assert {*out.splitlines()} == {*other.stdout.splitlines()} - {f"('PYTHONPATH', '{ROOT}')"}
    assert (err, command.returncode) == (other.stderr, other.returncode)


def test_what_it_has_started_is_waited_for(tmp_path: Path) -> None:
    command = ForkedCommand(leaves_one_behind, (), tmp_path, os.environ)
    command.wait(60)
    with pytest.raises(subprocess.TimeoutExpired):
        command.communicate(0.1)
    out, _ = command.communicate(60)
    assert out.endswith("x\nlate\n")


def test_what_nobody_catches_is_printed(tmp_path: Path) -> None:
    command = ForkedCommand(raises, (), tmp_path, os.environ)
    _, err = command.communicate(60)
    assert command.returncode == 1
    assert err.endswith("ValueError: unexpected\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    command = ForkedCommand(sleeps, (), tmp_path, os.environ)
    assert command.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        command.wait(0.5)
    command.send_signal(number)
    command.wait(60)
    # Python prints a traceback of the interrupt, and then ends by the same signal.
    assert command.returncode == (1 if number is signal.SIGINT else -number)
    command.kill()  # of what has ended
