"""The Dagster instance of a repository of images, opened by a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

if TYPE_CHECKING:
    from pathlib import Path


def open_instance(home: Path) -> dg.DagsterInstance:
    """The instance in a folder. Its storages are found by the environment, which stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        return dg.DagsterInstance.from_config(str(home))
