"""How many scenarios one build can have in Azure ML at once, and what that costs.

The real SDK submits and polls over HTTPS in a process of its own; the control plane is the emulator of the tests, in
this one, whose jobs run nothing. So times are those of the factory and of the SDK, not of Azure.

    python benchmarks/azure_jobs.py [--jobs 200] [--running-seconds 60] [--poll-seconds 10]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from aml_images_dagster.builds.naming import job_name
from aml_images_dagster.catalog.tests_file import TrainingScenario
from aml_images_dagster.identity.credential import Credential
from aml_images_dagster.settings import load_settings
from aml_images_dagster.testing.azure_ml.runner import AzureMlRunner
from aml_images_dagster.testing.interface import TestJob
from tests.emulators.azure.blob_storage import BlobStorage
from tests.emulators.azure.clockwork import Clockwork
from tests.emulators.azure.cloud import EmulatedCloud
from tests.emulators.azure.machine_learning import MachineLearning

BUILD = "20260101.00000000"
IMAGE = "registry.example/base@sha256:" + 64 * "1"


def build(count: int) -> None:
    """What one build does, measured from inside; prints the result as JSON."""
    settings = load_settings()
    runner = AzureMlRunner(settings.azure, Credential)
    before = peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        jobs = [job(Path(folder), number) for number in range(count)]
        began = time.monotonic()
        submitted: list[float] = []
        threads = 0

        def log(line: str) -> None:
            nonlocal threads
            threads = max(threads, threading.active_count())
            if ": submitted as " in line:
                submitted.append(time.monotonic() - began)

        with closing(runner.run_all(jobs, log)) as results:
            statuses = Counter(result.status for result in results)
        seconds = time.monotonic() - began
    used = {"before": before, "after": peak_mib()}
    print(json.dumps({"seconds": seconds, "submitted": max(submitted), "threads": threads, "mib": used, **statuses}))


def job(folder: Path, number: int) -> TestJob:
    """One of many, each with a script of its own."""
    code = folder / str(number)
    code.mkdir()
    (code / "train.py").write_text(f"print({number})\n")
    scenario = TrainingScenario(name=f"s{number}", kind="training", script="train.py")
    name = job_name(BUILD, "base/image", scenario.name, 1)
    return TestJob(name, BUILD, "base/image", IMAGE, "linux", scenario, code, 3600)


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(count: int, running_seconds: float, poll_seconds: float) -> None:
    """Run a build against the emulator and print what was seen from both sides."""
    with tempfile.TemporaryDirectory() as folder, EmulatedCloud(Path(folder)) as cloud:
        blobs = cloud.start(BlobStorage(cloud))
        MachineLearning(cloud, blobs, Clockwork(queued_seconds=5, running_seconds=running_seconds))
        poll = {"AML_IMAGES_AZURE__JOB_POLL_SECONDS": str(poll_seconds), "AML_IMAGES_REPO": folder}
        environment = {**os.environ, **cloud.environment, **poll}
        command = [sys.executable, __file__, "--inside", "--jobs", str(count)]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, cwd=folder)
        seen = json.loads(done.stdout.splitlines()[-1])
        asked = Counter(kind(line.request.method, line.request.target) for line in cloud.arm.exchanges())
        times = [line.time for line in cloud.arm.exchanges("GET", r"/jobs\?")]
        stored = len(blobs.exchanges())
    minutes = seen["seconds"] / 60
    print(f"{count} scenarios, each queued 5 s and running {running_seconds:g} s, polled every {poll_seconds:g} s")
    print(f"  passed               {seen.get('passed', 0)}")
    print(f"  all submitted after  {seen['submitted']:.1f} s")
    print(f"  all over after       {seen['seconds']:.1f} s")
    print(f"  requests             {sum(asked.values())} to the control plane, {stored} to the store")
    print(f"  of these, polling    {len(times)}: {len(times) / minutes:.0f} per minute")
    print(f"  in all               {(sum(asked.values()) + stored) / minutes:.0f} per minute")
    for name, number in asked.most_common():
        print(f"    {number:5} {name}")
    print(f"  threads at most      {seen['threads']}")
    print(f"  memory at most       {seen['mib']['after']:.0f} MiB, of which before the SDK {seen['mib']['before']:.0f}")


def kind(method: str, target: str) -> str:
    """A request by what it is about."""
    path = urlsplit(target).path
    tail = path.rpartition("/workspaces/")[2].split("/")
    return f"{method} {tail[1] if len(tail) > 1 else 'workspace'}{'/…' if len(tail) > 2 else ''}"


def main() -> None:
    """See the module."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--jobs", type=int, default=200)
    arguments.add_argument("--running-seconds", type=float, default=60)
    arguments.add_argument("--poll-seconds", type=float, default=10)
    arguments.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    logging.basicConfig(level=logging.ERROR)
    if given.inside:
        build(given.jobs)
    else:
        measure(given.jobs, given.running_seconds, given.poll_seconds)


if __name__ == "__main__":
    main()
