"""`aml-images inventory`: what it prints for people and for programs, and of which image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.ledger import Ledger, TagChange
from tests.records import begun_release, build_record, staged_image, write_withdrawal
from tests.trust.images import MemoryRegistry
from tests.trust.test_inventory import deb, dist_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine

BUILD = "20261126.aaaaaaaa"
LAYER = {
    "etc/os-release": 'ID=debian\nVERSION_ID=12\nPRETTY_NAME="Debian GNU/Linux 12"\n',
    "var/lib/dpkg/status": deb("bash", "5.2.15-2"),
    "opt/tool/a": "",
    "opt/tool/b": "",
}


@pytest.fixture
def images(image_repository: ImageRepository) -> ImageRepository:
    """Image folders, and the real registries."""
    return image_repository


@pytest.fixture
def artifacts(images: ImageRepository) -> Artifacts:
    return Artifacts(str(images.artifacts))


@pytest.fixture
def push(staging: OciRegistry, images: ImageRepository) -> Callable[..., Reference]:
    """Pushes an image of these layers into staging, where images of `apps` are."""

    def push(*layers: object) -> Reference:
        memory = MemoryRegistry()
        return memory.copy_to(staging, images.families["apps"], memory.push(*layers))

    return push


def stage(artifacts: Artifacts, reference: Reference) -> None:
    image, tag = f"{reference.repository}/other", reference.with_tag(f"other--{BUILD}")
    folder = artifacts.build(BUILD)
    folder.write_build(build_record(BUILD, images=(image,), status="succeeded"))
    folder.write_staged(staged_image(image, BUILD, reference=str(tag), digest=reference.digest))


def test_a_reference(images, push):
    reference = push(LAYER)
    document = images.json("inventory", str(reference))
    assert (document["image"], document["reference"]) == (reference.repository, str(reference))
    (inventory,) = document["platforms"]
    assert inventory["platform"] == "linux/amd64"
    assert inventory["packages"][0]["purl"] == "pkg:deb/debian/bash@5.2.15-2?arch=amd64&distro=debian-12"
    assert inventory["unowned"] == [{"path": "opt/tool/", "files": 2}]
    assert images.json("inventory", str(reference), "--format", "json") == document


def test_a_table_for_people(images, push):
    shown = images.run("inventory", str(push(LAYER)))
    assert shown.returncode == 0, shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[:2] == [["package", "version", "type", "licence"], ["bash", "5.2.15-2", "deb", "not", "found"]]
    assert ["/opt/tool/", "(2", "files)"] in lines
    assert ["without", "licence", "1"] in lines


def test_a_narrow_terminal(images, push):
    shown = images.run("inventory", str(push(LAYER)), COLUMNS="60", TTY_COMPATIBLE="1")
    assert shown.returncode == 0, shown.stderr
    assert "bash" in shown.stdout


@pytest.mark.parametrize(("form", "key"), [("spdx", "spdxVersion"), ("cyclonedx", "specVersion")])
def test_an_sbom(images, push, form, key):
    reference = str(push(LAYER))
    first, second = (images.run("inventory", reference, "--format", form) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)[key] in ("SPDX-2.3", "1.6")
    assert first.stdout == second.stdout


def test_the_newest_image_in_staging_with_what_it_declares(images, artifacts, push):
    contains = [{"name": "tool", "version": "1", "licence": "MIT", "path": "/opt/tool"}]
    images.write(images.folder("apps/other") / "image.json", json.dumps({"contains": contains}))
    stage(artifacts, push(LAYER))
    document = images.json("inventory", "other")
    assert document["image"] == images.image("apps/other")
    (inventory,) = document["platforms"]
    assert [package["name"] for package in inventory["packages"]] == ["bash", "tool"]
    assert inventory["unowned"] == []


@pytest.mark.parametrize("command", ["inventory", "vulnerabilities"])
def test_an_image_that_was_withdrawn(images, artifacts, push, command):
    def asked():
        """For people the line that names the image, and what programs read."""
        shown = images.run(command, "other").stdout.splitlines()
        document = json.loads(images.run(command, "other", "--json").stdout)
        return next(line.split() for line in shown if line.split()[:1] == ["image"]), document["withdrawn"]

    image, reference = images.image("apps/other"), push(LAYER)
    stage(artifacts, reference)
    assert asked() == (["image", image], False)
    write_withdrawal(artifacts, image, reference.digest)
    assert asked() == (["image", f"{image},", "withdrawn"], True)


def test_a_released_image_that_staging_has_no_longer(images, artifacts, push, production, repository):
    memory = MemoryRegistry()
    released = memory.copy_to(production, repository, memory.push(dist_info("released", "1")))
    gone = released.with_digest(f"sha256:{'0' * 64}")
    stage(artifacts, push(LAYER).with_digest(gone.digest))
    change = TagChange(
        image=images.image("apps/other"), repository=repository, tag="latest", before=None, after=released.digest
    )
    begun = Ledger(artifacts).append(begun_release(BUILD, changes=(change,)))
    Ledger(artifacts).append(begun_release(BUILD, changes=(change,), begun=begun.number))
    document = images.json("inventory", images.image("apps/other"))
    assert document["reference"] == str(released)
    assert document["platforms"][0]["packages"][0]["name"] == "released"


def test_an_image_of_two_platforms(images, staging, repository):
    memory = MemoryRegistry()
    entries = [
        {"digest": memory.push(dist_info("a", version), architecture=architecture).digest, "size": 1}
        | {"platform": {"os": "linux", "architecture": architecture}}
        for version, architecture in (("1", "amd64"), ("2", "arm64"))
    ]
    reference = str(memory.copy_to(staging, repository, memory.push_index(*entries)))
    platforms = images.json("inventory", reference)["platforms"]
    assert [(each["platform"], each["packages"][0]["version"]) for each in platforms] == [
        ("linux/amd64", "1"),
        ("linux/arm64", "2"),
    ]
    refused = images.run("inventory", reference, "--format", "spdx")
    assert refused.returncode == 2
    assert "Choose one with --platform: linux/amd64, linux/arm64." in refused.stderr
    one = images.run("inventory", reference, "--format", "spdx", "--platform", "linux/arm64")
    assert "pkg:pypi/a@2" in one.stdout
    absent = images.run("inventory", reference, "--platform", "linux/s390x")
    assert (absent.returncode, "no platform linux/s390x" in absent.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("absent", "there is no image 'absent'"),
        ("other", "the image is neither in staging nor released"),
        ("127.0.0.1:5000/tests/absent:1", "the registry has no such image"),
        ("127.0.0.1:5000/UPPER", "is not an image reference"),
    ],
)
def test_an_image_that_is_not_there(images, text, message):
    refused = images.run("inventory", text)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
