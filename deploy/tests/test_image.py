"""What the factory's own image promises. Runs inside a container of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def test_it_is_not_root_and_its_home_is_writable() -> None:
    """As every file of deploy/ expects."""
    assert os.getuid() == 10001
    assert os.access(os.environ["AML_IMAGES_HOME"], os.W_OK)
    assert os.access(os.environ["DAGSTER_HOME"], os.W_OK)


@pytest.mark.parametrize(
    "command",
    [
        ["aml-images", "--help"],
        ["dagster", "--version"],
        ["dagster-webserver", "--version"],
        ["docker", "--version"],
        ["docker", "buildx", "version"],
        ["git", "--version"],
    ],
    ids=" ".join,
)
def test_what_it_needs_is_there(command: list[str]) -> None:
    """Programs that deploy/ starts, and those that they start."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"HOME": "/tmp"})
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_of_other_programs_belong_to_root() -> None:
    """Nobody who gets into a process of the factory changes its code."""
    code = Path("/opt/aml-images")
    assert not os.access(code, os.W_OK)
    assert not any(os.access(path, os.W_OK) for path in (code / "aml_images_dagster").rglob("*.py"))
