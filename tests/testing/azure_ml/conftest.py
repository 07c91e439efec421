"""A workspace of an emulated Azure, reached by the real SDK, and jobs for it."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

from aml_images_dagster.builds.naming import job_name
from aml_images_dagster.catalog.tests_file import Scenario
from aml_images_dagster.identity.credential import Credential
from aml_images_dagster.settings import load_settings
from aml_images_dagster.testing.azure_ml.runner import AzureMlRunner
from aml_images_dagster.testing.interface import TestJob as Job
from tests.emulators.azure.clockwork import Clockwork
from tests.emulators.azure.machine_learning import MachineLearning

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emulators.azure.blob_storage import BlobStorage
    from tests.emulators.azure.cloud import EmulatedCloud

MakeJob = Callable[..., Job]
MakeRunner = Callable[..., AzureMlRunner]


@pytest.fixture
def clockwork() -> Clockwork:
    """Jobs that run nothing."""
    return Clockwork()


@pytest.fixture
def workspace(
    cloud: EmulatedCloud, blob_account: BlobStorage, clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> MachineLearning:
    """A workspace whose jobs run nothing; the environment leads there."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # which SDK is the newest is not the question here
    workspace = MachineLearning(cloud, blob_account, clockwork)
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    return workspace


@pytest.fixture
def make_runner(workspace: MachineLearning, tmp_path: Path) -> MakeRunner:
    """Makes a runner by configuration alone; what is given differs from the environment's settings."""

    def make(**differing: object) -> AzureMlRunner:
        quick = {"job_poll_seconds": 0.1, "job_cancel_seconds": 10}
        settings = load_settings(repo=tmp_path).azure.model_copy(update=quick | differing)
        return AzureMlRunner(settings, Credential)

    return make


@pytest.fixture
def runner(make_runner: MakeRunner) -> AzureMlRunner:
    """A runner."""
    return make_runner()


@pytest.fixture
def build() -> str:
    """A build's number."""
    return f"20260101.{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make_job(build: str, tmp_path: Path) -> MakeJob:
    """Makes a job out of a scenario and files, given as texts."""
    count = itertools.count()
    scenarios: TypeAdapter[Any] = TypeAdapter(Scenario)

    def make(
        reference: str = "registry.example/base@sha256:" + 64 * "1",
        files: Mapping[str, str] | None = None,
        seconds: float = 60,
        **scenario: object,
    ) -> Job:
        code = tmp_path / "code" / str(next(count))
        for name, text in (files or {"scripts/train.py": "print('trained')"}).items():
            path = code / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        scenario = {"name": "trial", "kind": "training"} | scenario
        if scenario["kind"] == "training":
            scenario = {"script": next(iter(files or {"scripts/train.py": ""}))} | scenario
        parsed = scenarios.validate_python(scenario)
        name = job_name(build, "base/tests", parsed.name, 1)
        return Job(name, build, "base/tests", reference, "linux", parsed, code, seconds, commit="abc123")

    return make


def eventually(holds: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)
