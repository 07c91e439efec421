"""A base that changes in its registry, seen by a running Dagster daemon: what is built, and how often."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import read_manifest
from tests.browser.dagster_ui import DagsterUi
from tests.emulators.token_registry import TokenRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

pytestmark = [pytest.mark.e2e, pytest.mark.engine]

TICK_SECONDS = 5
PATIENCE_SECONDS = 240

RUNS = """query ($tags: [ExecutionTag!]) { runsOrError(filter: {tags: $tags}) { ... on Runs { results {
    runId status assetSelection { path } tags { key value } } } } }"""
TICKS = """{ sensorOrError(sensorSelector: {repositoryName: "__repository__", repositoryLocationName:
    "aml_images_dagster", sensorName: "upstream_bases"}) { ... on Sensor { sensorState { status
    ticks(limit: 3) { status skipReason timestamp } } } } }"""
OBSERVE = """mutation ($path: [String!]!) { launchPipelineExecution(executionParams: {mode: "default",
    selector: {repositoryLocationName: "aml_images_dagster", repositoryName: "__repository__",
    pipelineName: "__ASSET_JOB", assetSelection: [{path: $path}]}, runConfigData: "{}"}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } ... on InvalidSubsetError { message } } }"""


class Upstream:
    """The bases `one` and `two` in a registry that wants tokens, and a daemon that watches them."""

    def __init__(self, ui: DagsterUi, repository: ImageRepository, push: Callable[[str], Reference]) -> None:
        self.ui = ui
        self.repository = repository
        self.push = push

    def runs(self) -> list[dict[str, Any]]:
        """Builds that a changed base has started, newest first."""
        tags = [{"key": "aml-images/trigger", "value": "upstream bases"}]
        found: list[dict[str, Any]] = self.ui.graphql(RUNS, tags=tags)["runsOrError"]["results"]
        return found

    def images(self, run: dict[str, Any]) -> set[str]:
        return {
            "/".join(key["path"]).removesuffix(".staged")
            for key in run["assetSelection"]
            if ".staged" in key["path"][-1]
        }

    def skip_reason(self) -> str:
        ticks = self.ui.graphql(TICKS)["sensorOrError"]["sensorState"]["ticks"]
        return str(ticks[0]["skipReason"] if ticks else "")

    def until(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{otherwise}; last tick: {self.skip_reason()}"
            time.sleep(1)

    def wait_for_runs(self, count: int) -> list[dict[str, Any]]:
        self.until(lambda: len(self.runs()) >= count, f"there is no build number {count}")
        self.until(lambda: self.runs()[0]["status"] in ("SUCCESS", "FAILURE"), "the build has not ended")
        return self.runs()


@pytest.fixture
def bases(image_repository: ImageRepository, staging: OciRegistry) -> Iterator[str]:
    """The repository of the two bases; what it holds is deleted after the test."""
    name = f"bases/{image_repository.families['tools']}"
    yield name
    for base in ("one", "two"):
        for tag in staging.tags(f"{name}/{base}"):
            staging.delete(Reference(staging.host, f"{name}/{base}", tag))


@pytest.fixture
def upstream(
    image_repository: ImageRepository,
    staging: OciRegistry,
    bases: str,
    push_new_image: Callable[[str, str], Reference],
    tmp_path: Path,
) -> Iterator[Upstream]:
    """tools/shell is built on one, apps/hello is FROM it; apps/other is built on two."""
    for image, base in {"tools/shell": "one", "apps/other": "two"}.items():
        dockerfile = image_repository.folder(image) / "Dockerfile"
        _, _, rest = dockerfile.read_text().partition("\n")
        dockerfile.write_text(f"FROM upstream.example/{base}:1\n{rest}")

    def push(name: str) -> Reference:
        return push_new_image(f"{bases}/{name}", "1")

    push("one")
    push("two")
    with TokenRegistry(staging.host, {}, public=(bases,)) as front:
        pyproject = image_repository.root / "pyproject.toml"
        before, _, _ = pyproject.read_text().partition("base-mirrors")
        pyproject.write_text(
            f"""{before}automation = "on"
base-mirrors = {{ "upstream.example" = "{front.host}/{bases}" }}
[tool.aml-images.upstream]
interval-seconds = {TICK_SECONDS}
batch-minutes = 0
retry-minutes = 0.01
"""
        )
        image_repository.commit("bases")
        with DagsterUi(image_repository.root, tmp_path / "dagster") as ui:
            yield Upstream(ui, image_repository, push)


def test_a_changed_base(upstream: Upstream, staging: OciRegistry, bases: str) -> None:
    image = upstream.repository.image
    upstream.until(lambda: "2 of 2 bases have not changed" in upstream.skip_reason(), "no tick")
    assert upstream.runs() == []

    upstream.push("one")
    (first,) = upstream.wait_for_runs(1)
    assert first["status"] == "SUCCESS"
    assert upstream.images(first) == {image("tools/shell"), image("apps/hello")}
    upstream.until(lambda: "2 of 2 bases have not changed" in upstream.skip_reason(), "it goes on")
    assert len(upstream.runs()) == 1

    break_image(staging, Reference(staging.host, f"{bases}/two", "1"))
    upstream.until(lambda: "paused after 3 failed builds" in upstream.skip_reason(), "it is not paused")
    assert [run["status"] for run in upstream.runs()] == ["FAILURE"] * 3 + ["SUCCESS"]
    assert all(upstream.images(run) == {image("apps/other")} for run in upstream.runs()[:3])
    tags = staging.tags(upstream.repository.families["apps"])
    assert not [tag for tag in tags if tag.startswith("other--")]  # all or nothing

    launched = upstream.ui.graphql(OBSERVE, path=["upstream", "upstream.example", "two--1"])["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    assert upstream.ui.finished_run(launched["run"]["runId"])["status"] == "SUCCESS"
    assert upstream.wait_for_runs(5)[0]["status"] == "FAILURE"
    upstream.push("two")
    upstream.until(lambda: upstream.runs()[0]["status"] == "SUCCESS", "a fixed base is not built")
    upstream.until(lambda: "2 of 2 bases have not changed" in upstream.skip_reason(), "it goes on")


def break_image(registry: OciRegistry, reference: Reference) -> None:
    """Push an image from which nothing can be built: its layer is no archive.

    Its configuration has the diff ID of that layer: BuildKit and containerd do not read a layer whose diff ID they
    have unpacked before.
    """
    document = read_manifest(registry.existing(reference))
    layer = b"no archive"
    digest = _digest(layer)
    config = registry.config(reference)
    config_body = json.dumps({**config, "rootfs": config["rootfs"] | {"diff_ids": [digest]}}).encode()
    for body in (layer, config_body):
        registry.upload_blob(reference.repository, _digest(body), body)
    document["config"] |= {"digest": _digest(config_body), "size": len(config_body)}
    document["layers"] = [document["layers"][0] | {"digest": digest, "size": len(layer)}]
    content = json.dumps(document).encode()
    manifest = Manifest(_digest(content), registry.existing(reference).media_type, content)
    registry.put_manifest(reference.repository, reference.tag, manifest)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
