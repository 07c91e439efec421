"""Logs of steps in files, by nothing but the step."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

KEY = ["run", "compute_logs", "abcdefgh"]
PROGRAM = """
import subprocess, sys
from pathlib import Path
import dagster as dg
with dg.DagsterInstance.get() as instance, instance.compute_log_manager.capture_logs(sys.argv[1:]):
    print("by Python", flush=True)
    subprocess.run(["sh", "-c", "echo by a shell; echo faults >&2"], check=True)
    children = [task.joinpath("children").read_text() for task in Path("/proc/self/task").iterdir()]
    print("children:", "".join(children), flush=True)
print("afterwards")
"""


def test_what_is_printed_is_in_files_where_dagster_has_them(instance: dg.DagsterInstance, home: Path) -> None:
    manager = instance.compute_log_manager
    assert not manager.is_capture_complete(KEY)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *KEY], capture_output=True, text=True, check=True
    )
    assert done.stdout == "afterwards\n"
    assert manager.is_capture_complete(KEY)
    log = manager.get_log_data(KEY)
    assert log.stdout == b"by Python\nby a shell\nchildren: \n"
    assert log.stderr == b"faults\n"
    assert LocalComputeLogManager(str(home / "storage")).get_log_data(KEY).stdout == log.stdout
