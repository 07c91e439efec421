"""The factory builds and releases the image that it runs in: an image folder like any other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.catalog.reference import Reference
from tests.deployed.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.registry.oci import OciRegistry

pytestmark = [pytest.mark.engine, pytest.mark.deployed]

FAMILY = "factory-of-tests"
IMAGE = f"{FAMILY}/aml-images"
RELEASED = f"public-{FAMILY}/aml-images"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """This repository as it is now, committed: what a working tree has beyond its commit is not released."""
    source = tmp_path / "source"
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")
    for file in (ROOT / name for name in names if name):
        if file.is_file():
            copy = source / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], check=True)
    return source


@pytest.fixture
def registries(staging: OciRegistry, production: OciRegistry) -> Iterator[tuple[OciRegistry, OciRegistry]]:
    yield staging, production
    for registry, repository in ((staging, FAMILY), (production, RELEASED)):
        for tag in (*registry.tags(repository), *registry.referrers_tags(repository)):
            registry.delete(Reference(registry.host, repository, tag))


def test_the_factory_builds_tests_describes_signs_and_releases_its_own_image(
    source: Path, registries: tuple[OciRegistry, OciRegistry], tmp_path: Path
) -> None:
    """With the settings of docs/operate.md."""
    staging, production = registries
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_", "COLUMNS"))}
    environment |= {
        "AML_IMAGES_IMAGE_PATHS": f"deploy = {IMAGE}",
        "AML_IMAGES_HOME": str(tmp_path / "home"),
        "AML_IMAGES_STAGING_REGISTRY": staging.host,
        "AML_IMAGES_PRODUCTION_REGISTRY": production.host,
        "AML_IMAGES_PRODUCTION_NAMES": f"public-{FAMILY}/{{name}}",
        "AML_IMAGES_BASE_MIRRORS": f"docker.io={staging.host}/mirror/docker.io",
        "AML_IMAGES_BUILD_NETWORK": "host",
    }

    def command(*arguments: str) -> Any:
        done = subprocess.run(
            [Path(sys.executable).with_name("aml-images"), *arguments, "--json"],
            cwd=source,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    built = command("build", IMAGE)
    assert built["status"] == "succeeded"
    release = json.loads((tmp_path / "home" / "artifacts" / built["build"] / "release.json").read_text())
    (image,) = release["images"]
    assert {test["status"] for test in image["tests"]} == {"passed"}
    reference = image["staging"]["reference"]
    (inventory,) = command("inventory", reference)["platforms"]
    assert {"dagster", "git", "aml-images-dagster"} <= {package["name"] for package in inventory["packages"]}
    verified = command("verify", reference)
    assert verified["verified"] is True
    command("release", built["build"], "--outside-window", "a test")
    latest = Reference(production.host, RELEASED, "latest")
    assert production.digest(latest) == staging.digest(Reference.parse(reference)) is not None
