"""The crash of one image's file does not stop the daemon's sensors: they go on with the others and name it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.catalog.reference import Reference
from tests.browser.dagster_ui import DagsterUi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

pytestmark = [pytest.mark.e2e, pytest.mark.engine]

PATIENCE_SECONDS = 240

TICKS = """{ sensorsOrError(repositorySelector: {repositoryName: "__repository__",
    repositoryLocationName: "aml_images_dagster"}) { ... on Sensors { results { name sensorState { status
    ticks(limit: 20) { status skipReason timestamp error { message } } } } } } }"""
RUNS = """{ runsOrError(filter: {tags: [{key: "aml-images/trigger", value: "upstream bases"}]}) { ... on Runs {
    results { runId status assetSelection { path } } } } }"""
BROKEN = {
    "apps/digits": ("tests.json", '{"timeout_minutes": ' + "9" * 5000 + "}"),
    "apps/deep": ("image.json", "[" * 100_000),
    "apps/unreadable": ("Dockerfile", "FROM\n"),
    "apps/itself": ("Dockerfile", "FROM registry.example/itself\n"),
    "apps/missing": ("Dockerfile", "FROM upstream.example/base:1\nCOPY missing /\n"),
}


def _until(holds: Callable[[], object], otherwise: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(1)


@pytest.fixture
def bases(image_repository: ImageRepository, staging: OciRegistry) -> Iterator[str]:
    """The repository of the external base; what it holds is deleted after the test."""
    name = f"bases/{image_repository.families['tools']}"
    yield name
    for tag in staging.tags(f"{name}/base"):
        staging.delete(Reference(staging.host, f"{name}/base", tag))


def test_c20_the_sensors_of_the_daemon_go_on(
    image_repository: ImageRepository,
    staging: OciRegistry,
    bases: str,
    push_new_image: Callable[[str, str], Reference],
    tmp_path: Path,
) -> None:
    push_new_image(f"{bases}/base", "1")
    for image, (file, content) in BROKEN.items():
        image_repository.write_image(image, "FROM upstream.example/base:1\n")
        (image_repository.folder(image) / file).write_text(content)
    dockerfile = image_repository.folder("apps/other") / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("FROM busybox:latest", "FROM upstream.example/base:1"))
    pyproject = image_repository.root / "pyproject.toml"
    before, _, _ = pyproject.read_text().partition("base-mirrors")
    mirrors = {"docker.io": f"{staging.host}/mirror/docker.io", "upstream.example": f"{staging.host}/{bases}"}
    written = ", ".join(f'"{name}" = "{place}"' for name, place in mirrors.items())
    pyproject.write_text(
        f"""{before}automation = "on"
base-mirrors = {{ {written} }}
[tool.aml-images.upstream]
interval-seconds = 5
batch-minutes = 0
"""
    )
    image_repository.commit("broken images")
    remote = tmp_path / "remote.git"  # which the sensor of pull requests asks
    image_repository.git("clone", "-q", "--bare", ".", str(remote))
    image_repository.git("remote", "add", "origin", str(remote))

    with DagsterUi(image_repository.root, tmp_path / "dagster") as ui:

        def ticks() -> dict[str, list[dict[str, Any]]]:
            found = ui.graphql(TICKS)["sensorsOrError"]["results"]
            return {each["name"]: each["sensorState"]["ticks"] for each in found}

        def told() -> str:
            return str(next((tick["skipReason"] for tick in ticks()["upstream_bases"]), ""))

        _until(lambda: "have not changed" in told(), ticks)
        for image, (file, _) in BROKEN.items():
            name = image_repository.image(image)
            assert f"{name} is left out: images/{name}/{file}" in told()

        push_new_image(f"{bases}/base", "1")
        _until(lambda: ui.graphql(RUNS)["runsOrError"]["results"], ticks)
        (run,) = ui.graphql(RUNS)["runsOrError"]["results"]
        keys = {"/".join(key["path"]) for key in run["assetSelection"]}
        assert f"{image_repository.image('apps/other')}.staged" in keys
        assert not [key for key in keys for image in BROKEN if key.startswith(f"{image_repository.image(image)}.")]
        assert ui.finished_run(run["runId"])["status"] == "SUCCESS"
        _until(lambda: "have not changed" in told(), ticks)
        failed = {name: tick for name, its in ticks().items() for tick in its if tick["status"] == "FAILURE"}
        assert not failed
