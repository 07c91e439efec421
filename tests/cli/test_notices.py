"""`aml-images notices`: what it shows, what it writes, and its exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.catalog.image import NOTICES_FILE, NOTICES_LOCK
from tests.records import build_record, staged_image
from tests.trust.images import MemoryRegistry
from tests.trust.test_inventory import deb, dist_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine

LAYER = {"var/lib/dpkg/status": deb("bash", "5.2"), **dist_info("numpy", "2.4.6", "License-Expression: BSD-3-Clause")}
UPDATED = {"var/lib/dpkg/status": deb("bash", "5.3") + deb("zlib1g", "1", Source="zlib")}


@pytest.fixture
def images(image_repository: ImageRepository) -> ImageRepository:
    return image_repository


@pytest.fixture
def stage(staging: OciRegistry, images: ImageRepository) -> Callable[..., Reference]:
    """Stages an image of these layers as that of a build, without building it."""

    def stage(build: str, *layers: object) -> Reference:
        memory = MemoryRegistry()
        reference = memory.copy_to(staging, images.families["apps"], memory.push(*layers), f"other--{build}")
        folder = Artifacts(str(images.artifacts)).build(build)
        folder.write_build(build_record(build, images=(images.image("apps/other"),), status="succeeded"))
        tag = reference.with_tag(f"other--{build}")
        folder.write_staged(
            staged_image(images.image("apps/other"), build, reference=str(tag), digest=reference.digest)
        )
        return reference

    return stage


def test_a_lock_is_made_and_drift_is_shown_until_it_is_written(
    images: ImageRepository, stage: Callable[..., Reference]
) -> None:
    folder, other = images.folder("apps/other"), images.image("apps/other")
    stage("20261126.aaaaaaaa", LAYER)

    unkept = images.run("notices", "other")
    assert (unkept.returncode, unkept.stdout.splitlines()[-1]) == (0, "No lock is kept. --write makes one.")
    assert not (folder / NOTICES_LOCK).exists()

    written = images.run("notices", "other", "--write")
    assert (written.returncode, written.stderr) == (0, "")
    assert (folder / NOTICES_FILE).read_text().startswith("busybox: GPL-2.0\n\n====")
    assert "\nnumpy\n    Licence:   BSD-3-Clause\n" in (folder / NOTICES_FILE).read_text()
    assert images.run("notices", "other").stdout.splitlines()[-1] == "No drift."
    assert [each for each in images.json("validate", other)["findings"] if each["severity"] == "error"] == []

    reference = stage("20261127.bbbbbbbb", LAYER, UPDATED)
    shown = images.run("notices", "other")
    assert shown.returncode == 1
    assert shown.stdout.splitlines()[-1] == "Drift: 1 component."
    row = next(line.split() for line in shown.stdout.splitlines() if line.startswith(" zlib"))
    assert row[:3] == ["zlib", "deb", "added"]

    told = images.run("notices", "other", "--json")
    assert told.returncode == 1
    document = json.loads(told.stdout)
    assert (document["of"], document["lock"]) == ("20261127.bbbbbbbb", True)
    assert document["drift"] == [
        {"what": "added", "type": "deb", "name": "zlib", "before": "", "after": "", "base": False}
        | {"lock_line": 4, "notices_line": 12}
    ]
    assert images.json("notices", "other", "--of", "20261126")["drift"] == []
    assert images.run("notices", "other", "--of", str(reference)).returncode == 1

    assert images.run("notices", "other", "--write").returncode == 0
    assert images.run("notices", "other").returncode == 0


def test_what_is_shared_or_of_another_encoding_is_left_as_it_is(
    images: ImageRepository, stage: Callable[..., Reference]
) -> None:
    stage("20261126.aaaaaaaa", LAYER)
    notices, shared = images.folder("apps/other") / NOTICES_FILE, images.root / "NOTICES.txt"
    shared.write_text("of all images\n")
    notices.unlink()
    notices.symlink_to("../../../NOTICES.txt")
    refused = images.run("notices", "other", "--write")
    assert (refused.returncode, "it is a link" in refused.stderr) == (2, True)
    assert (notices.is_symlink(), shared.read_text()) == (True, "of all images\n")
    notices.unlink()
    notices.write_bytes(b"\xa9 somebody\n")
    refused = images.run("notices", "other", "--write")
    assert (refused.returncode, "the file is not UTF-8" in refused.stderr) == (2, True)
    assert notices.read_bytes() == b"\xa9 somebody\n"


def test_a_build_of_a_pull_request_counts_only_by_its_number(
    images: ImageRepository, stage: Callable[..., Reference]
) -> None:
    merged = stage("20261126.aaaaaaaa", LAYER)
    stage("20261126.bbbbbbbb", UPDATED)
    record = build_record("20261126.bbbbbbbb", images=(images.image("apps/other"),), status="partial", pull_request="7")
    Artifacts(str(images.artifacts)).build("20261126.bbbbbbbb").write_build(record)
    assert images.json("notices", "other")["of"] == "20261126.aaaaaaaa"
    assert images.json("notices", "other", "--of", "20261126.b")["of"] == "20261126.bbbbbbbb"
    refused = images.run("notices", "other", "--of", "20261126", "--write")
    assert (refused.returncode, "2 builds begin with '20261126'" in refused.stderr) == (2, True)
    assert images.json("inventory", "other")["reference"].endswith(merged.digest)


def test_what_cannot_be_looked_at_is_one_message(images: ImageRepository, stage: Callable[..., Reference]) -> None:
    assert "neither in staging nor released" in images.run("notices", "other").stderr
    stage("20261126.aaaaaaaa", LAYER)
    (images.folder("apps/other") / NOTICES_LOCK).write_text('{"components": [{"type": "deb"}]}')
    refused = images.run("notices", "other", "--write")

    assert refused.returncode == 2
    assert f'{NOTICES_LOCK}:1: "components[0].name" is missing' in refused.stderr
    assert "Traceback" not in refused.stderr
