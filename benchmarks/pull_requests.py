"""How long one look at many open pull requests takes.

    python benchmarks/pull_requests.py [--pull-requests 1000] [--images 1000]

Makes a bare remote in a temporary folder, and a repository of images. First the sensor sees all pull requests for the
first time, a part of them per look; then nothing has changed; then one of them has a new commit. Seconds of the clock,
and of the processor, which other work on the machine does not change much.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import dagster as dg
from discover import git, make_repository

from aml_images_dagster.definitions import definitions
from aml_images_dagster.defs.pinned_catalog import PinnedCatalog
from aml_images_dagster.pull_requests.tracking import Tracking
from aml_images_dagster.settings import load_settings

FIRST_LOOKS = 10
QUIET_LOOKS = 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--pull-requests", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pull-requests-benchmark-") as folder:
        root, bare = Path(folder) / "repository", Path(folder) / "remote.git"
        root.mkdir()
        make_repository(root, options.images)
        subprocess.run(["git", "clone", "-q", "--bare", str(root), str(bare)], check=True)
        git(root, "remote", "add", "origin", str(bare))
        open_pull_requests(bare, options.images, range(1, options.pull_requests + 1))
        settings = load_settings(
            repo=root,
            home=Path(folder) / "home",
            base_mirrors={"docker.io": "127.0.0.1:5000/mirror/docker.io"},
            pull_requests={"allow": "everyone", "remote": str(bare)},
        )
        started = time.perf_counter()
        loaded = definitions(settings, PinnedCatalog.now(settings))
        sensor = next(sensor for sensor in loaded.sensors or () if sensor.name == "pull_requests")
        repository = loaded.get_repository_def()
        print(f"definitions of {options.images} images: {time.perf_counter() - started:.1f} s")
        with dg.DagsterInstance.ephemeral() as instance:
            cursor = None

            def look() -> tuple[tuple[float, float], int]:
                nonlocal cursor
                began, processor = time.perf_counter(), sum(os.times()[:4])
                with dg.build_sensor_context(instance, cursor=cursor, repository_def=repository) as context:
                    result = sensor(context)
                assert isinstance(result, dg.SensorResult), result
                cursor = result.cursor
                taken = time.perf_counter() - began, sum(os.times()[:4]) - processor
                return taken, len(result.run_requests or ())

            first, runs = [], 0
            for _ in range(FIRST_LOOKS):
                seconds, asked = look()
                first.append(seconds)
                runs += asked
            # To judge all would take its time; from here on they have been.
            tracking = Tracking.read(cursor)
            for tracked in tracking.pull_requests.values():
                tracked.phase = "requested"
            cursor = tracking.write()
            quiet = [look()[0] for _ in range(QUIET_LOOKS)]
            open_pull_requests(bare, options.images, [7], "again")
            changed, asked = look()
        print(f"first {len(first)} looks, {runs} builds asked for: {shown(first)}")
        print(f"nothing has changed: {shown(quiet)}")
        print(f"one new commit, {asked} build asked for: {shown([changed])}")
        print(f"cursor: {len(cursor or '') / 1000:.0f} kB")


def shown(looks: list[tuple[float, float]]) -> str:
    clock, processor = zip(*looks, strict=True)
    return (
        f"median {statistics.median(clock):.2f} s, longest {max(clock):.2f} s, "
        f"of a processor median {statistics.median(processor):.2f} s"
    )


def open_pull_requests(bare: Path, images: int, numbers: range | list[int], text: str = "") -> None:
    """Give each a commit: three in four change an image, the others documentation."""
    commits = []
    for number in numbers:
        image = number % images
        folder = f"base_images/docker/public/family{image % 10}/image{image:04}"
        path = "README.md" if number % 4 == 0 else f"{folder}/data.txt"
        content = f"{number} {text}\n"
        commits.append(
            f"commit refs/pull/{number}/head\ncommitter A <a@example.org> {1_700_000_000 + number} +0000\n"
            f"data 1\nx\nfrom refs/heads/main^0\nM 100644 inline {path}\ndata {len(content)}\n{content}\n"
        )
    subprocess.run(
        ["git", "-C", str(bare), "fast-import", "--quiet", "--force"],
        input="".join(commits).encode(),
        check=True,
        env=os.environ,
    )


if __name__ == "__main__":
    main()
