"""How long a tick of the sensors and schedules takes over a large repository.

    python benchmarks/automation.py [--images 1000] [--bases 200] [--rounds 5] [--postgres]

Makes a repository in a temporary folder and a registry on loopback that wants a token for every repository, loads the
definitions once, as a code server does, and evaluates ticks: the first, which reads the main branch, and those after
it. The registry answers after 50 ms, as far away as a public one. With --postgres the instance is in a Postgres of the
benchmark's own (Debian's, as root).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import dagster as dg
from discover import ROOT, commit, git

from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs.main_branch import MainBranch
from aml_images_dagster.defs.run import Factory
from aml_images_dagster.defs.schedules.release_day import release_day_sensor
from aml_images_dagster.defs.schedules.schedules import schedule_definitions, schedule_files_sensor
from aml_images_dagster.defs.upstream.sensor import upstream_sensor
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
from tests.dagster_instance import open_instance
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable

ON_POSTGRES = Path(__file__).parents[1] / "deploy" / "dagster-postgres.yaml"
FAR_SECONDS = 0.05
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": f"sha256:{'0' * 64}", "size": 2}
MANIFEST = json.dumps(
    {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": CONFIG, "layers": []}
).encode()
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
SCHEDULE = """\
name: everything
description: Every image, every night.
cron: 0 3 * * *
timezone: UTC
selection: {images: ["*"]}
release: approval
"""


class Registry(BaseHTTPRequestHandler):
    """Serves a digest for any tag, to who has fetched a token for its repository."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        """The token server, and manifests."""
        if self.path.startswith("/token"):
            time.sleep(FAR_SECONDS)
            answer = json.dumps({"token": "t", "expires_in": 300}).encode()
            self._send(200, {"Content-Type": "application/json"}, answer)
        else:
            self._answer(MANIFEST)

    def do_HEAD(self) -> None:
        """Whether there is a manifest."""
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        Registry.asked += 1
        time.sleep(FAR_SECONDS)
        if self.headers.get("Authorization") == "Bearer t":
            headers = {"Docker-Content-Digest": DIGEST, "Content-Type": "application/vnd.oci.image.manifest.v1+json"}
            self._send(200, headers, body)
        else:
            realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="x",scope="repository:x:pull"'
            self._send(401, {"WWW-Authenticate": realm}, b"")

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def make_repository(root: Path, images: int, bases: int, registry: str) -> None:
    """Images in chains of five; each names one of the bases as well."""
    for number in range(images):
        folder = root / ROOT / f"family{number % 10}" / f"image{number:04}"
        folder.mkdir(parents=True)
        parent = f"mcr.microsoft.com/azureml/image{number - 1:04}" if number % 5 else "scratch"
        (folder / "Dockerfile").write_text(
            f"FROM {registry}/base{number % bases:04}:1 AS base\nFROM {parent}\nCOPY --from=base / /\n"
        )
    (root / "schedules").mkdir()
    (root / "schedules" / "everything.yaml").write_text(SCHEDULE)
    git(root, "init", "-q", "-b", "main")
    commit(root, "images")


def seconds(tick: Callable[[], object], rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        tick()
        taken.append(time.perf_counter() - started)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--bases", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgres", action="store_true")
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in [name for name in os.environ if name.startswith(("AML_IMAGES_", "DAGSTER_"))]:
        del os.environ[name]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="automation-benchmark-"))
        if options.postgres:
            os.environ.update(stack.enter_context(PostgresServer()).environment)
            home = Path(folder, "dagster")
            home.mkdir()
            (home / "dagster.yaml").symlink_to(ON_POSTGRES)
            instance = stack.enter_context(open_instance(home))
        else:
            instance = stack.enter_context(dg.instance_for_test())
        root = Path(folder, "repository")
        make_repository(root, options.images, options.bases, f"127.0.0.1:{server.server_port}")
        os.environ["AML_IMAGES_TRUSTED_REGISTRIES"] = f"127.0.0.1:{server.server_port}"
        settings = load_settings(repo=root)
        factory = Factory(settings, load_source(settings), backends_for(settings))
        branch = MainBranch(factory)
        upstream = upstream_sensor(factory, branch)
        (schedule,) = schedule_definitions(factory, branch)
        cursor = ""

        def tick_upstream() -> None:
            nonlocal cursor
            result = upstream(dg.build_sensor_context(instance=instance, cursor=cursor))
            assert isinstance(result, dg.SensorResult)
            cursor = result.cursor or ""

        def tick_schedule() -> None:
            with dg.build_schedule_context(instance=instance, scheduled_execution_time=datetime.now(UTC)) as context:
                schedule(context)

        ticks: dict[str, Callable[[], object]] = {
            "upstream_bases": tick_upstream,
            "everything_schedule": tick_schedule,
            "schedule_files": lambda: schedule_files_sensor(factory)(dg.build_sensor_context(instance=instance)),
            "release_day": lambda: release_day_sensor(factory)(dg.build_sensor_context(instance=instance)),
        }
        print(f"{options.images} images on {options.bases} bases; seconds")
        print("| tick | first | median of the next | longest |\n|---|---|---|---|")
        for name, tick in ticks.items():
            (first,), later = seconds(tick, 1), seconds(tick, options.rounds)
            print(f"| `{name}` | {first:.2f} | {statistics.median(later):.2f} | {max(later):.2f} |", flush=True)
        print(f"{Registry.asked} questions to the registry", flush=True)
    server.shutdown()


if __name__ == "__main__":
    main()
