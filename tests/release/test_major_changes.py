"""The gate of a release: what may break users is released only when a person accepts it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.records import TestedImage
from aml_images_dagster.errors import BadInput, ReleaseFailed
from aml_images_dagster.release.release_files import publish
from aml_images_dagster.settings.trust import TrustSettings
from tests.emulators.faulty_registry import Fault, FaultyRegistry
from tests.records import staged_image
from tests.trust.images import MemoryRegistry
from tests.trust.test_inventory import deb

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.registry.oci import OciRegistry
    from aml_images_dagster.release.release_json import ReleaseJson
    from tests.release.conftest import House, NewSession

    Build = Callable[..., ReleaseJson]

pytestmark = pytest.mark.engine

IMAGE = "apps/other"


@pytest.fixture
def build(new_session: NewSession, staging: OciRegistry) -> Build:
    """Makes a complete build of an image that has these packages of Debian."""

    def make(tag: str, age: float = 0, **packages: str) -> ReleaseJson:
        session: Any = new_session(IMAGE)
        # What builds attach is not of these tests.
        session = replace(session, settings=session.settings.model_copy(update={"trust": TrustSettings(attach=False)}))
        session = replace(session, release_tag=tag, created=session.created - timedelta(hours=age))
        session.begin()
        (session.settings.home / ".gitignore").write_text("*\n")
        (name,) = session.images
        reference = session.staging_reference(session.image(name))
        memory = MemoryRegistry()
        status = "".join(deb(package.replace("_", "."), version) for package, version in packages.items())
        pushed = memory.copy_to(
            staging, reference.repository, memory.push({"var/lib/dpkg/status": status}), reference.tag
        )
        session.folder.write_staged(staged_image(name, session.number, reference=str(reference), digest=pushed.digest))
        session.folder.write_tested(TestedImage(image=name, digest=pushed.digest, scenarios=()))
        return publish(session).release

    return make


def test_another_minor_version_of_python_is_refused_until_it_is_accepted(house: House, build: Build) -> None:
    house.releaser().release(build("v1", 2, **{"python3_10-minimal": "3.10.2-1", "libc6": "2.36-9"}))
    second = build("v2", 1, **{"python3_12-minimal": "3.12.1-1", "libc6": "2.40-1"})
    image = house.repository.image(IMAGE)
    changes = (f"{image}: Python 3.10 → 3.12", f"{image}: glibc 2.36 → 2.40")

    with pytest.raises(BadInput) as refused:
        house.releaser().release(second)

    assert all(change in refused.value.what for change in changes)
    assert (refused.value.where, "--accept-major" in refused.value.hint) == (f"build {second.build}", True)
    assert len(house.ledger.records()) == 2, "nothing of it was recorded"
    assert house.releaser().plan(second).major == changes
    record = house.releaser().release(second, accept_major=True).record
    assert record.accepted_major == changes
    assert house.ledger.records()[-2].accepted_major == changes


def test_an_update_of_security_needs_nobody(house: House, build: Build) -> None:
    house.releaser().release(build("v1", 2, libssl3="3.0.15-1"))
    record = house.releaser().release(build("v2", 1, libssl3="3.0.17-1")).record
    assert record.accepted_major == ()


def test_a_first_release_and_a_repeated_one_are_compared_with_nothing(house: House, build: Build) -> None:
    first = build("v1", 1, libc6="2.36-9")
    planned = house.releaser().plan(first)
    assert not house.settings.layer_records.exists()
    house.releaser().release(first)
    repeated = house.releaser().plan(first)
    assert [(plan.differences, plan.not_compared) for plan in (planned, repeated)] == [({}, {})] * 2


def test_where_changes_are_only_reported(house: House, build: Build) -> None:
    house.configure(major_changes="report")
    house.releaser().release(build("v1", 2, libc6="2.36-9"))
    done = house.releaser().release(build("v2", 1, libc6="2.40-1"))
    assert done.plan.major == (f"{house.repository.image(IMAGE)}: glibc 2.36 → 2.40",)
    assert done.record.accepted_major == ()


def test_a_release_that_was_interrupted_continues_as_it_was_accepted(
    house: House, build: Build, production: OciRegistry
) -> None:
    house.releaser().release(build("v1", 2, libc6="2.36-9"))
    second = build("v2", 1, libc6="2.40-1")
    latest = next(name for name in second.images[0].destinations if name.endswith(":latest"))
    repository = latest.removesuffix(":latest")
    with FaultyRegistry(production.host) as front:
        house.move_production(front.host)
        front.faults.append(Fault("status", method="PUT", path=f"/v2/{repository}/manifests/latest"))
        with pytest.raises(ReleaseFailed):
            house.releaser().release(second, accept_major=True)
        front.faults.clear()
        record = house.releaser().release(second).record
    assert record.accepted_major == (f"{house.repository.image(IMAGE)}: glibc 2.36 → 2.40",)


def test_the_dry_run_says_what_changes(house: House, build: Build) -> None:
    house.releaser().release(build("v1", 2, libc6="2.36-9"))
    second = build("v2", 1, libc6="2.40-1", bash="5.2")
    image = house.repository.image(IMAGE)
    shown = house.repository.run("release", second.build, "--dry-run", COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    assert re.search(rf"{image}: packages: 1 changed, 1 added; [1-9]\d* B of new layers", shown.stdout)
    assert f"may break users: {image}: glibc 2.36 → 2.40" in shown.stdout
    assert f"    aml-images diff {image} latest {second.build}" in shown.stdout
    document = house.repository.json("release", second.build, "--dry-run")
    assert document["major"] == [f"{image}: glibc 2.36 → 2.40"]
    assert document["differences"][image]["older"] == "v1"
    refused = house.repository.run("release", second.build)
    assert (refused.returncode, "glibc 2.36 → 2.40" in refused.stderr) == (2, True)
    released = house.repository.json("release", second.build, "--accept-major")
    assert released["accepted_major"] == [f"{image}: glibc 2.36 → 2.40"]
