"""scripts/emulation, as far as it can be run without a change of the machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "emulation"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_an_architecture_that_it_does_not_know_is_misuse() -> None:
    done = run("mips")
    assert (done.returncode, done.stderr) == (2, "error: scripts/emulation knows arm64, not mips\n")


@pytest.mark.engine
@pytest.mark.usefixtures("emulation")
def test_what_is_emulated_already_is_left_as_it_is() -> None:
    done = run("arm64")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
