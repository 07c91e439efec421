"""A build that waits for a place in a pool says so: `status`, `builds`, and the progress of the command."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.records import Plan
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.instance import CONFIGURATION
from aml_images_dagster.cli.progress import Progress
from aml_images_dagster.defs.keys import BUILD_JOB
from tests.dagster_instance import open_instance
from tests.records import build_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.image_repository import ImageRepository

BUILD = "20261123.aaaaaaaa"
SAID = "waiting: 1 of 1 builds run"


@pytest.fixture
def instance(repository: ImageRepository) -> Iterator[dg.DagsterInstance]:
    home = repository.root / ".aml-images" / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").symlink_to(CONFIGURATION)
    with open_instance(home) as instance:
        instance.event_log_storage.set_concurrency_slots("docker_build", 1)
        yield instance


@pytest.fixture
def run(instance: dg.DagsterInstance) -> str:
    """One that waits for the step of another."""
    claim = instance.event_log_storage.claim_concurrency_slot
    other, ours = (instance.add_run(dg.DagsterRun(BUILD_JOB, status=dg.DagsterRunStatus.STARTED)).run_id for _ in "12")
    claim("docker_build", other, "step")
    claim("docker_build", ours, "step")
    return ours


def test_status_and_builds_say_it(repository: ImageRepository, run: str) -> None:
    Artifacts(str(repository.artifacts)).build(BUILD).write_build(build_record(BUILD, run_id=run, status="running"))
    assert SAID in repository.run("status", BUILD).stdout
    assert SAID in repository.run("builds").stdout
    assert repository.json("status", BUILD)["waiting"] == SAID
    assert [build["waiting"] for build in repository.json("builds")] == [SAID]


def test_the_progress_says_it(instance: dg.DagsterInstance, run: str, tmp_path: Path) -> None:
    instance.add_run_tags(run, {"it": "is this"})
    printed = tmp_path / "printed"
    deadline = time.monotonic() + 60
    with (
        printed.open("w", buffering=1) as file,
        Progress(instance, {"it": "is this"}, Plan(commit="", images=()), open_console(file=file)),
    ):
        while SAID not in printed.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
    assert printed.read_text().count(SAID) == 1
