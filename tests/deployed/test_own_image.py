"""The factory builds the image that it runs in: an image folder like any other, with inventory and signature."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.catalog.reference import Reference
from tests.deployed.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aml_images_dagster.registry.oci import OciRegistry

pytestmark = [pytest.mark.engine, pytest.mark.deployed]

FAMILY = "factory-of-tests"
IMAGE = f"{FAMILY}/aml-images"


@pytest.fixture
def registry(staging: OciRegistry) -> Iterator[OciRegistry]:
    yield staging
    for tag in staging.tags(FAMILY):
        staging.delete(Reference(staging.host, FAMILY, tag))


def test_the_factory_builds_tests_describes_and_signs_its_own_image(registry: OciRegistry, tmp_path: Path) -> None:
    """With the settings of docs/operate.md."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_", "COLUMNS"))}
    environment |= {
        "AML_IMAGES_IMAGE_PATHS": f"deploy = {IMAGE}",
        "AML_IMAGES_HOME": str(tmp_path / "home"),
        "AML_IMAGES_STAGING_REGISTRY": registry.host,
        "AML_IMAGES_BASE_MIRRORS": f"docker.io={registry.host}/mirror/docker.io",
        "AML_IMAGES_BUILD_NETWORK": "host",
    }

    def command(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "aml_images_dagster.cli.main", *arguments, "--json"],
            cwd=ROOT,
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
    packages = {package["name"]: package["version"] for package in command("inventory", reference)["packages"]}
    assert {"dagster", "docker-cli", "git", "aml-images-dagster"} <= packages.keys()
    verified = command("verify", reference)
    assert verified["verified"] is True
