"""The server of commands: each copy is the command, with its own folder, environment and end."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.command_server import command_server
from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path) -> ImageRepository:
    return ImageRepository.create(tmp_path / "repository")


def test_a_copy_has_its_own_folder_environment_and_outputs(repository: ImageRepository, tmp_path: Path) -> None:
    nowhere = os.environ | {"AML_IMAGES_REPO": str(tmp_path / "nowhere")}
    refused = command_server().run(("list",), repository.root, nowhere, 60)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "nowhere" in refused.stderr
    listed = command_server().run(("list",), repository.root, os.environ, 60)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "tools/shell" in listed.stdout


def test_a_command_that_takes_too_long_is_killed_and_the_next_one_runs(repository: ImageRepository) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        command_server().run(("metrics", "--interval", "60"), repository.root, os.environ, 2)
    assert command_server().run(("list",), repository.root, os.environ, 60).returncode == 0
