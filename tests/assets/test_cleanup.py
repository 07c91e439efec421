"""What the UI says about cleanups."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.cleanup import announce
from aml_images_dagster.assets.keys import CLEANUP, NOTHING_LEFT
from aml_images_dagster.builds.artifacts import Artifacts, write_atomically
from aml_images_dagster.builds.cleanup import CleanupReport

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = dg.AssetCheckKey(CLEANUP, NOTHING_LEFT)


def report(artifacts: Artifacts, build: str, *, clean: bool) -> CleanupReport:
    """As a cleanup leaves it behind."""
    found = CleanupReport(build=build, rows=(), clean=clean, attempts=0 if clean else 1, finished=NOW)
    write_atomically(artifacts.build(build).root / "cleanup.json", found.model_dump_json().encode())
    return found


def is_healthy(instance: dg.DagsterInstance) -> bool:
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([KEY])[KEY]
    return str(latest.status.value) == "SUCCEEDED"


def test_a_clean_build_does_not_hide_one_that_is_not(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        announce(instance, [report(artifacts, "20261123.aaaaaaaa", clean=False)], artifacts)
        assert not is_healthy(instance)
        announce(instance, [report(artifacts, "20261123.bbbbbbbb", clean=True)], artifacts)
        assert not is_healthy(instance)
        announce(instance, [report(artifacts, "20261123.aaaaaaaa", clean=True)], artifacts)
        assert is_healthy(instance)
