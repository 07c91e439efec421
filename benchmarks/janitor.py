"""What a sweep of the janitor costs in an artifacts store with many builds: seconds, and questions to the registry.

Run: python benchmarks/janitor.py [--builds 2000]. Builds of three years in a folder, among them some that ended lately
and some that run; the engine of this machine, and a registry that counts and has nothing. The first sweep settles what
is long over.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.builds.housekeeping.cleanup import CleanupReport
from aml_images_dagster.builds.housekeeping.janitor import sweep
from aml_images_dagster.builds.records import BuildFailure, BuildRecord
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.housekeeping.janitor import RunState

LATELY, RUNNING = 5, 2
"""Builds that failed in the last hours, and that run."""


class CountingRegistry(OciRegistry):
    """A registry without any tag."""

    asked = 0

    def tags(self, repository: str) -> Sequence[str]:
        CountingRegistry.asked += 1
        return []


class Alive:
    """Runs that go on."""

    def state(self, run_id: str) -> RunState:
        return "alive"

    def failure(self, run_id: str) -> BuildFailure | None:
        return None


def write_builds(artifacts: Artifacts, count: int, now: datetime) -> Counter[str]:
    """One in five failed and was cleaned up; the others have succeeded and left staging, but for the youngest."""
    written: Counter[str] = Counter()
    for number in range(count):
        is_young = number < LATELY + RUNNING
        age = timedelta(minutes=20 * number) if is_young else timedelta(days=3 * 365 * number / count + 1)
        status = "failed" if is_young or number % 5 == 0 else "expired"
        status = "running" if number < RUNNING else status
        created = now - age
        folder = artifacts.build(f"{created:%Y%m%d}.{number:08x}")
        record = BuildRecord.model_validate(
            {
                "build": folder.build,
                "run_id": "a",
                "status": status,
                "commit": "",
                "source": "",
                "created": created,
                "release_tag": "v1",
                "images": ["base/one", "base/two", "gpu/three"],
            }
        )
        folder.write_build(record)
        if status != "running":
            report = CleanupReport(build=folder.build, rows=(), clean=True, attempts=0, finished=created)
            (folder.root / "cleanup.json").write_text(report.model_dump_json())
        written[status] += 1
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--builds", type=int, default=2000)
    count = parser.parse_args().builds
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(repo=Path(folder))
        backends = backends_for(settings)
        backends = dataclasses.replace(backends, staging=CountingRegistry(settings.staging_registry))
        print(f"{count} builds: {dict(write_builds(backends.artifacts, count, now))}")
        for name in ("first", "second", "third"):
            CountingRegistry.asked, started = 0, time.perf_counter()
            reports = sweep(backends, settings, Alive(), now)
            seconds = time.perf_counter() - started
            print(f"{name} sweep: {seconds:.3f} s, {CountingRegistry.asked} lists of tags, {len(reports)} cleanups")


if __name__ == "__main__":
    main()
