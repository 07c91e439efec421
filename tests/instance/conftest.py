"""An instance with the storages and logs that the factory uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = {
    "telemetry": {"enabled": False},
    "storage": {"custom": {"module": "aml_images_dagster.instance.storage", "class": "PooledSqliteStorage"}},
    "compute_logs": {"module": "aml_images_dagster.instance.compute_logs", "class": "FileComputeLogManager"},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of an instance; its files are where the environment says."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text(yaml.safe_dump(OWN))
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")  # else opening the instance sets it for all tests
    return folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as instance:
        assert instance.root_directory == str(home)
        yield instance
