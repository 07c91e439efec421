"""The image folders of this repository keep the rules of base_images/devREADME.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.image import (
    IMAGE_FILE,
    LICENSE_FILE,
    NOTICES_FILE,
    NOTICES_LOCK,
    PRIVATE_DOCKERFILE,
    TESTS_FILE,
)
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.catalog.validation import validate

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = ROOT / "base_images/docker/public"
FOLDERS = sorted(path.parent for path in PUBLIC.glob("*/*/Dockerfile"))
EVERY_FOLDER = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")

UPSTREAM_REGISTRIES = ("docker.io", "mcr.microsoft.com")
PUBLISHED_AS = ("mcr.microsoft.com/azureml/{name}",)
THIS_MACHINE = re.compile(r"127\.0\.0\.1|localhost|host-ca|/tmp/bash|update-ca-certificates", re.IGNORECASE)


@pytest.fixture(scope="module")
def tree() -> WorkingTree:
    return WorkingTree(ROOT)


@pytest.fixture(scope="module")
def catalog(tree: WorkingTree) -> Catalog:
    return Catalog.load(tree, "base_images/docker/public", PUBLISHED_AS)


def text_of(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


def test_all_images_are_there(catalog: Catalog) -> None:
    families = sorted({image.partition("/")[0] for image in catalog.images})
    assert families == ["base", "base-gpu", "base-windows", "framework"]
    assert len(catalog.images) >= 13
    assert {image.path for image in catalog.images.values()} == {str(path.relative_to(ROOT)) for path in FOLDERS}


def test_the_images_of_one_folder_keep_their_names(catalog: Catalog) -> None:
    assert {name: image.bases for name, image in catalog.images.items() if image.variant} == {
        "base-gpu/openmpi5.0-cuda12.4-ubuntu22.04": ("nvidia/cuda:12.4.1-cudnn-devel-ubuntu22.04",),
        "base-gpu/openmpi5.0-cuda12.6-ubuntu24.04": ("nvidia/cuda:12.6.3-cudnn-devel-ubuntu24.04",),
        "base-gpu/openmpi5.0-cuda12.8-ubuntu24.04": ("nvidia/cuda:12.8.1-cudnn-devel-ubuntu24.04",),
    }


def test_validation_finds_nothing(catalog: Catalog, tree: WorkingTree) -> None:
    assert [str(finding) for finding in validate(catalog, tree)] == []


def test_frameworks_are_built_from_our_own_image(catalog: Catalog) -> None:
    frameworks = {name: image.parents for name, image in catalog.images.items() if image.family == "framework"}
    assert frameworks == dict.fromkeys(frameworks, ("base/openmpi4.1-debian12",))


def test_the_historic_example_is_not_built_by_default(catalog: Catalog) -> None:
    left_out = set(catalog.images) - set(catalog.select_default(date(2026, 1, 1)))
    assert left_out == {"base/intelmpi2018.3-ubuntu16.04"}


@EVERY_FOLDER
def test_folder_is_complete(folder: Path) -> None:
    present = {path.name for path in folder.iterdir()}
    assert present >= {"Dockerfile", LICENSE_FILE, NOTICES_FILE, PRIVATE_DOCKERFILE, TESTS_FILE, IMAGE_FILE}
    settings = json.loads(text_of(folder, "image.json"))
    assert all(image["description"] for image in settings.get("variants", {"": settings}).values())
    assert settings["owners"]


@EVERY_FOLDER
def test_legal_texts_reach_the_image_in_the_private_part(folder: Path) -> None:
    root = "C:/" if folder.parent.name == "base-windows" else "/"
    assert f"COPY {LICENSE_FILE} {NOTICES_FILE} {root}\n" in text_of(folder, PRIVATE_DOCKERFILE)


@EVERY_FOLDER
def test_licence_is_the_same_everywhere(folder: Path) -> None:
    licence = text_of(folder, LICENSE_FILE)
    assert licence.startswith((ROOT / "LICENSE").read_text(encoding="utf-8").rstrip())
    assert licence == text_of(FOLDERS[0], LICENSE_FILE)


@EVERY_FOLDER
def test_notices_name_what_is_pinned(folder: Path) -> None:
    """Whoever changes a version changes the notices with it."""
    notices = text_of(folder, NOTICES_FILE)
    assert notices.startswith(f"THIRD-PARTY SOFTWARE NOTICES: {folder.name}\n")
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", text_of(folder, "requirements.txt"), flags=re.MULTILINE)
    assert pins, "requirements.txt pins nothing"
    missing = [f"{name} {version}" for name, version in pins if f" {version}\n" not in notices]
    assert missing == []


def test_images_that_are_built_here_keep_a_lock_of_their_notices() -> None:
    """tests/e2e/test_inventory_and_syft.py builds these, and holds them against it."""
    assert {f"{folder.parent.name}/{folder.name}" for folder in FOLDERS if (folder / NOTICES_LOCK).exists()} == {
        "base/intelmpi2021-debian12",
        "base/openmpi4.1-debian12",
        "framework/lightgbm",
        "framework/scikit-learn",
    }


@EVERY_FOLDER
def test_every_requirement_is_pinned(folder: Path) -> None:
    lines = [line for line in text_of(folder, "requirements.txt").splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.+]+", line)] == []


@EVERY_FOLDER
def test_downloads_are_verified(folder: Path) -> None:
    dockerfile = text_of(folder, "Dockerfile")
    if folder.parent.name == "base-windows":
        calls = dockerfile.count("Install-Verified.ps1 ") - 1  # one is its COPY
        proofs = len(re.findall(r"-Sha256 |-Signer ", dockerfile))
        assert calls == proofs == 4
        assert "Invoke-WebRequest" not in dockerfile
    else:
        assert dockerfile.count("https://") == len(re.findall(r"sha256sum -c|PYTORCH_WHEELS=", dockerfile))


@EVERY_FOLDER
def test_nothing_of_a_developers_machine_is_in_it(folder: Path) -> None:
    found = {path.name: THIS_MACHINE.findall(text_of(folder, path.name)) for path in folder.iterdir()}
    assert {name: words for name, words in found.items() if words} == {}


def test_bases_come_from_the_known_registries(catalog: Catalog) -> None:
    bases = {base for image in catalog.images.values() for base in image.bases}
    strange = [
        base
        for base in bases
        if "." in base.partition("/")[0] and "/" in base and not base.startswith(UPSTREAM_REGISTRIES)
    ]
    assert strange == []


@EVERY_FOLDER
def test_hadolint_is_content(folder: Path) -> None:
    combined = text_of(folder, "Dockerfile") + "\n" + text_of(folder, PRIVATE_DOCKERFILE)
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", "--config", str(ROOT / ".hadolint.yaml"), "-"],
        input=combined,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
