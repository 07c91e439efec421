"""The four debian12 images of this repository: our inventory beside that of syft, a program that is not ours; and what
their notices say.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from aml_images_dagster.trust.sbom import sbom

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engine, pytest.mark.e2e]

ROOT = Path(__file__).parents[2]
IMAGES = (
    "base/openmpi4.1-debian12",
    "base/intelmpi2021-debian12",
    "framework/scikit-learn",
    "framework/lightgbm",
)
MISTAKES = {
    ("pypi", "my-test-package"),  # an egg among the tests of setuptools
    ("dotnet", "Simple Launcher"),  # the launchers for Windows inside of pip
    ("java-archive", "mpi"),  # a file of the wheel of Intel MPI, without a version
}
"""What syft 1.18.1 reports and is no package of the image."""
TYPES = {"python": "pypi"}


def aml_images(home: Path, *arguments: str) -> Any:
    """Run a command on this repository, with a state of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from aml_images_dagster.cli.main import main; main()", *arguments, "--json"],
        cwd=ROOT,
        env=os.environ | {"AML_IMAGES_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def staged(home: Path) -> Iterator[dict[str, Reference]]:
    """The four images, built and staged as quickstart does, and removed at the end."""
    build = aml_images(home, "build", *IMAGES)
    yield {
        image["image"]: Reference.parse(image["staged"]["reference"]).with_digest(image["staged"]["digest"])
        for image in build["images"]
    }
    aml_images(home, "cleanup", build["build"], "--yes")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> LayerRecords:
    return LayerRecords(tmp_path_factory.mktemp("layers"))


def as_syft_sees_it(reference: Reference, home: Path) -> set[tuple[str, str, str]]:
    """Type, name and version of every package that syft finds."""
    done = subprocess.run(
        [Path(sys.executable).with_name("syft"), "-q", "-o", "json", f"registry:{reference}"],
        env=os.environ
        | {"HOME": str(home), "SYFT_CHECK_FOR_APP_UPDATE": "false", "SYFT_REGISTRY_INSECURE_USE_HTTP": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = set()
    for package in json.loads(done.stdout)["artifacts"]:
        kind = TYPES.get(package["type"], package["type"])
        name = re.sub(r"[-_.]+", "-", package["name"]).lower() if kind == "pypi" else package["name"]
        if (kind, name) not in MISTAKES:
            found.add((kind, name, package["version"]))
    return found


@pytest.mark.parametrize("image", IMAGES)
def test_the_packages_are_those_that_syft_finds(staged, records, image, tmp_path):
    reference = staged[image]
    inventory = read_inventory(OciRegistry(reference.registry), reference, records)
    assert inventory.unread == ()
    ours = {(package.type, package.name, package.version) for package in inventory.packages}
    assert ours == as_syft_sees_it(reference, tmp_path)
    assert len(ours) > 150
    again = read_inventory(OciRegistry(reference.registry), reference, LayerRecords(tmp_path / "again"))
    for form in ("spdx", "cyclonedx"):
        assert sbom(again, image, form) == sbom(inventory, image, form)


@pytest.mark.parametrize("image", IMAGES)
def test_the_notices_name_what_is_in_the_image(staged, home, image):
    # A build records what it has found; a reference is read each time.
    for source in ((), ("--of", str(staged[image]))):
        document = aml_images(home, "notices", image, *source)
        assert (document["lock"], document["drift"]) == (True, [])
    assert len(document["components"]) > 120
