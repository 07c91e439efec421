"""A security update comes out: the gate closes, the sensor's rebuild opens it, an expired exception closes it again.

Everything is real (engine, registries, apt, a Dagster daemon) but the archive of Debian, which is the test's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from aml_images_dagster.defs.keys import PATCHED, released_key
from tests.browser.dagster_ui import DagsterUi
from tests.dagster_instance import open_instance
from tests.debian_archive import DebianArchive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.image_repository import ImageRepository

pytestmark = [pytest.mark.e2e, pytest.mark.engine]

PATIENCE_SECONDS = 300
TODAY = datetime.now(UTC).date()
FIRST, SECOND = "1.0-1", "1.0-1+deb12u1"
DOCKERFILE = """FROM debian:12
RUN rm -f /etc/apt/sources.list.d/* && printf '{sources}' > /etc/apt/sources.list && \\
    apt-get update && apt-get install -y libdemo1
COPY python /bin/python
"""
POLICY = "security_updates: true\nsources: [updates]\n"
EXCEPTION = """exceptions:
  - id: CVE-2026-0001
    reason: no program in this image reads such certificates
    expires: {day}
"""
ON_A_LATER_DAY = """
from datetime import datetime, timedelta
from aml_images_dagster.builds.compliance import vulnerability_gate
class Later(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(days={days})
vulnerability_gate.datetime = Later
from aml_images_dagster.cli.main import main
main()
"""
"""The command with another clock; the steps of its build are forks of its process."""

RUNS = """query ($tags: [ExecutionTag!]) { runsOrError(filter: {tags: $tags}) { ... on Runs { results {
    runId status assetSelection { path } tags { key value } } } } }"""
TICKS = """{ sensorOrError(sensorSelector: {repositoryName: "__repository__", repositoryLocationName:
    "aml_images_dagster", sensorName: "patches"}) { ... on Sensor { sensorState { ticks(limit: 1) {
    status skipReason error { message } } } } } }"""


class Scene:
    """apps/other, which installs a package of the archive; builds by the command line, and a daemon beside them."""

    def __init__(self, repository: ImageRepository, archive: DebianArchive, home: Path) -> None:
        self.repository = repository
        self.archive = archive
        self.home = home
        self.other = repository.image("apps/other")

    def publish(self, version: str, change: str, days_ago: int) -> None:
        """Publish a security update. apt's lists on this machine are fresh for some hours: they are removed."""
        self.archive.publish("libdemo1", version, change, TODAY - timedelta(days=days_ago), security=True)
        shutil.rmtree(self.repository.root / ".aml-images" / "apt", ignore_errors=True)

    def build(self) -> subprocess.CompletedProcess[str]:
        return self.repository.run("build", self.other, "--json")

    def build_on_a_later_day(self, days: int) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_", "COLUMNS"))}
        command = [sys.executable, "-c", ON_A_LATER_DAY.format(days=days), "build", self.other, "--json"]
        return subprocess.run(
            command, cwd=self.repository.root, env=clean, capture_output=True, text=True, timeout=300, check=False
        )

    def staged(self, build: str) -> dict[str, Any]:
        path = self.repository.artifacts / build / ".records" / self.other / "staged.json"
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def fleet(self) -> dict[str, Any]:
        """What the fleet says of the image."""
        images = self.repository.json("fleet")["images"]
        return next(image for image in images if image["image"] == self.other)

    def fleet_page(self) -> str:
        """The page that the daemon keeps in the artifacts."""
        page = self.repository.artifacts / "fleet" / "fleet.html"
        return page.read_text("utf-8") if page.exists() else ""

    def check(self) -> dg.AssetCheckEvaluation:
        """The last result of the check of what production serves; while it is executed, the one before."""
        with open_instance(self.home) as instance:
            key = dg.AssetCheckKey(released_key(self.other), PATCHED)
            history = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
        found = (record.evaluation for record in history)  # of one that is planned, its plan
        return next(each for each in found if isinstance(each, dg.AssetCheckEvaluation))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[DebianArchive]:
    with DebianArchive(tmp_path / "debian") as archive:
        archive.publish("libdemo1", FIRST, "First.", TODAY - timedelta(days=400))
        yield archive


@pytest.fixture
def scene(image_repository: ImageRepository, archive: DebianArchive, tmp_path: Path) -> Scene:
    sources = archive.sources.replace("\n", "\\n")
    (image_repository.folder("apps/other") / "Dockerfile").write_text(DOCKERFILE.format(sources=sources))
    pyproject = image_repository.root / "pyproject.toml"
    mirrors = ", ".join(f'"{name}" = "{url}"' for name, url in archive.mirrors.items())
    pyproject.write_text(
        f"""{pyproject.read_text()}automation = "on"
build-network = "host"
[tool.aml-images.upstream]
interval-seconds = 5
[tool.aml-images.vulnerabilities]
apt-mirrors = {{ {mirrors} }}
apt-keyring = "{archive.keyring}"
"""
    )
    image_repository.write(image_repository.root / "policy.yaml", POLICY)
    image_repository.commit("a package of Debian, and a policy")
    return Scene(image_repository, archive, tmp_path / "dagster")


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """What a build failed with."""
    assert done.returncode == 1, done.stdout + done.stderr
    return str(json.loads(done.stdout)["failure"]["message"])


def until(ui: DagsterUi, condition: Callable[[], Any], otherwise: str) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{otherwise}; last tick: {ui.graphql(TICKS)}"
        time.sleep(1)
    return found


def runs(ui: DagsterUi) -> list[dict[str, Any]]:
    """Builds that missing fixes have started."""
    tags = [{"key": "aml-images/trigger", "value": "missing fixes"}]
    found: list[dict[str, Any]] = ui.graphql(RUNS, tags=tags)["runsOrError"]["results"]
    return found


def last_tick(ui: DagsterUi) -> str:
    ticks = ui.graphql(TICKS)["sensorOrError"]["sensorState"]["ticks"]
    return str(ticks[0]["skipReason"] if ticks else "")


def test_a_missing_security_update_closes_the_gate_and_the_rebuild_that_the_sensor_starts_opens_it(
    scene: Scene,
) -> None:
    first = scene.build()
    assert first.returncode == 0, first.stdout + first.stderr
    first_build = json.loads(first.stdout)["build"]
    released = scene.repository.run("release", first_build)
    assert released.returncode == 0, released.stdout + released.stderr

    # 20 days ago an update came out. The same image is not released again.
    scene.publish(SECOND, "Fix CVE-2026-0001.", 20)
    closed = scene.build()
    assert f"libdemo1 {FIRST} → {SECOND} (CVE-2026-0001)" in refusal(closed)

    # The sensor has production scanned, and starts the rebuild of this image alone.
    with DagsterUi(scene.repository.root, scene.home) as ui:
        run = until(ui, lambda: next(iter(runs(ui)), None), "no rebuild is started")
        assert ui.finished_run(run["runId"])["status"] == "SUCCESS"
        waiting = until(
            ui, lambda: last_tick(ui) if "release it" in last_tick(ui) else "", "the build is not waited for"
        )
        (run,) = runs(ui)
        build = next(tag["value"] for tag in run["tags"] if tag["key"] == "aml-images/build")
        assert f"{scene.other}: Build {build} has what it lacks: release it." in waiting
        check = scene.check()
        assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
        shown = {name: value.value for name, value in check.metadata.items()}
        assert shown["fix"] == f"libdemo1 {FIRST} → {SECOND} (CVE-2026-0001)"
        assert (shown["days_left"], shown["available_since"]) == (10, str(TODAY - timedelta(days=20)))

        # The gate is open: what was built has the update, and says why it was built.
        staged = scene.staged(build)
        assert staged["reasons"] == [f"libdemo1 {FIRST} → {SECOND} (CVE-2026-0001)"]
        assert staged["because"] == ["forced"]
        assert staged["digest"] != scene.staged(first_build)["digest"]
        release = json.loads((scene.repository.artifacts / build / "release.json").read_text())
        assert [(f"{i['family']}/{i['name']}", i["reasons"]) for i in release["images"]] == [
            (scene.other, staged["reasons"])
        ]
        status = scene.repository.json("show", scene.other)["patched"]
        assert (status["state"], status["days_left"]) == ("due soon", 10)
        before = scene.fleet()
        assert [concern["text"] for concern in before["concerns"]] == ["10 days left to patch"]
        assert (before["status"], before["patches"]["days_left"]) == ("watch", 10)
        assert (before["served"]["build"], before["last_build"]["build"]) == (first_build, build)
        assert before["last_build"]["why"] == f"libdemo1 {FIRST} → {SECOND} (CVE-2026-0001); forced; missing fixes"
        until(ui, lambda: "10 days left to patch" in scene.fleet_page(), "the page of the fleet is not written")

        # Released, it is scanned again, and nothing is missing.
        released = scene.repository.run("release", build)
        assert released.returncode == 0, released.stdout + released.stderr
        until(ui, lambda: scene.check().passed, "what was released is not scanned")
        assert scene.repository.json("show", scene.other)["patched"]["state"] == "patched"
        assert len(runs(ui)) == 1
        after = scene.fleet()
        assert (after["status"], after["concerns"], after["patches"]["state"]) == ("good", [], "patched")
        assert (after["served"]["build"], len(after["served"]["sizes"])) == (build, 2)
        assert after["served"]["signed_by"]
        until(ui, lambda: "fully patched" in scene.fleet_page(), "the page of the fleet is not written again")


def test_an_exception_opens_the_gate_until_it_expires(scene: Scene) -> None:
    first = scene.build()
    assert first.returncode == 0, first.stdout + first.stderr
    scene.publish(SECOND, "Fix CVE-2026-0001.", 1)
    last_day = TODAY + timedelta(days=7)
    scene.repository.write(scene.repository.root / "policy.yaml", POLICY + EXCEPTION.format(day=last_day))
    scene.repository.commit("an exception")

    excepted = scene.build_on_a_later_day(7)
    assert excepted.returncode == 0, excepted.stdout + excepted.stderr

    said = refusal(scene.build_on_a_later_day(8))
    assert f"libdemo1 {FIRST} → {SECOND} (CVE-2026-0001)" in said
    assert f"The exception for CVE-2026-0001 has expired on {last_day}." in said
