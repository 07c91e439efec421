"""What a build says of a scenario that did not pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import BuildFailed
from tests.builds.in_memory import MemoryFactory, write, write_image

if TYPE_CHECKING:
    from pathlib import Path


def test_a_scenario_that_fails_names_the_command_that_shows_its_log(tmp_path: Path) -> None:
    write_image(tmp_path / "repo", "apps/hello", "FROM debian:12\n")
    write(tmp_path / "repo" / "checks" / "check.py", "exit 3\n")
    factory = MemoryFactory(tmp_path / "repo", tmp_path / "home", {"debian:12": f"sha256:{'0' * 64}"})
    factory.runner.failing.add("runs")
    with pytest.raises(BuildFailed) as failed:
        factory.build(factory.plan())
    (number,) = [folder.build for folder in factory.backends.artifacts.folders()]
    assert str(failed.value).splitlines() == [
        "apps/hello: scenario 'runs' failed: exit code 1",
        f"  `aml-images logs {number} apps/hello runs` shows what it has printed.",
    ]
