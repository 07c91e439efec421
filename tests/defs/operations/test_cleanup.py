"""What the UI says about cleanups."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.artifacts import Artifacts, write_atomically
from aml_images_dagster.builds.housekeeping.cleanup import CleanupReport, CleanupRow
from aml_images_dagster.defs.keys import CLEANUP, NOTHING_LEFT
from aml_images_dagster.defs.operations.cleanup import announce

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = dg.AssetCheckKey(CLEANUP, NOTHING_LEFT)


def report(
    artifacts: Artifacts, build: str, *, clean: bool, attempts: int = 1, rows: tuple[CleanupRow, ...] = ()
) -> CleanupReport:
    """As a cleanup leaves it behind."""
    found = CleanupReport(build=build, rows=rows, clean=clean, attempts=0 if clean else attempts, finished=NOW)
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


def test_a_cleanup_that_is_repeated_for_a_day_fills_no_log(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path))
    left = CleanupRow(kind="staged image", name="apps:other", outcome="left", detail="the registry does not answer")
    with dg.DagsterInstance.ephemeral() as instance:

        def told() -> int:
            return len(instance.fetch_materializations(CLEANUP, limit=1000).records)

        for attempt in range(1, 2881):
            unfinished = report(artifacts, "20261123.aaaaaaaa", clean=False, attempts=attempt, rows=(left,))
            announce(instance, [unfinished], artifacts)
        assert not is_healthy(instance)
        assert told() == 12
        removed = left.model_copy(update={"outcome": "removed"})
        announce(
            instance, [report(artifacts, "20261123.aaaaaaaa", clean=False, attempts=2881, rows=(removed,))], artifacts
        )
        assert told() == 13, "what is removed is told"
