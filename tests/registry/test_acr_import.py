"""Production pulls a staged image itself: the real management SDK against an importImage that really copies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.checks import perform
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.settings import load_settings
from tests.emulators.azure.service import Fault
from tests.indexes import push_index

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.checks import CheckResult
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.conftest import PushNewImage
    from tests.emulators.azure.cloud import EmulatedCloud

pytestmark = pytest.mark.engine

PASSWORD = "correct-horse-battery-staple"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


@pytest.fixture
def backends(cloud: EmulatedCloud, repo: Path) -> Backends:
    return backends_for(load_settings(repo=repo))


@pytest.fixture
def staged(
    cloud: EmulatedCloud, staging: OciRegistry, push_new_image: PushNewImage, repository: str
) -> tuple[Reference, Reference]:
    """Two images of the emulated staging registry, by digest."""
    images = [push_new_image(repository, tag) for tag in ("1", "2")]
    for image in images:
        copy_image(staging, cloud.staging.plain, image.with_digest(image.digest), "base", [image.tag])
    one, two = (Reference(cloud.staging.host, "base", digest=image.digest) for image in images)
    return one, two


@pytest.fixture
def released(cloud: EmulatedCloud) -> Reference:
    return Reference(cloud.production.host, "public/azureml/hello", "20261123.v1")


def imports(cloud: EmulatedCloud) -> list[dict[str, object]]:
    return [json.loads(request.body) for request in cloud.arm.requests("POST", "importImage")]


def test_by_digest_as_an_identity(
    backends: Backends, cloud: EmulatedCloud, staged: tuple[Reference, Reference], released: Reference
) -> None:
    backends.importer.import_image(staged[0], released, replace=False)
    assert cloud.production.plain.digest(Reference(cloud.production.plain.host, released.repository, released.tag))
    assert backends.production.digest(released) == staged[0].digest
    assert imports(cloud) == [
        {
            "source": {
                "resourceId": cloud.environment["AML_IMAGES_AZURE__STAGING_REGISTRY_ID"],
                "sourceImage": f"base@{staged[0].digest}",
            },
            "targetTags": ["public/azureml/hello:20261123.v1"],
            "mode": "NoForce",
        }
    ]


def test_an_index_comes_with_all_its_images(
    backends: Backends, cloud: EmulatedCloud, staged: tuple[Reference, Reference], released: Reference
) -> None:
    plain = Reference(cloud.staging.plain.host, "base")
    images = {
        f"linux/{name}": plain.with_digest(image.digest) for name, image in zip(("amd64", "arm64"), staged, strict=True)
    }
    index = push_index(cloud.staging.plain, images, plain.with_tag("index"))
    backends.importer.import_image(staged[0].with_digest(index.digest), released, replace=False)
    assert backends.production.digest(released) == index.digest
    there = images_of(backends.production, released).values()
    assert [each.digest for each in there] == [image.digest for image in staged]
    backends.production.tag(released.with_digest(index.digest), "latest")
    backends.production.untag(released)
    assert backends.production.digest(released.with_tag("latest")) == index.digest


def test_done_already_is_done(
    backends: Backends, cloud: EmulatedCloud, staged: tuple[Reference, Reference], released: Reference
) -> None:
    for _ in range(2):
        backends.importer.import_image(staged[0], released, replace=False)
    assert len(imports(cloud)) == 1


def test_a_release_tag_never_moves(
    backends: Backends, cloud: EmulatedCloud, staged: tuple[Reference, Reference], released: Reference
) -> None:
    backends.importer.import_image(staged[0], released, replace=False)
    with pytest.raises(BadInput, match="A released tag never moves"):
        backends.importer.import_image(staged[1], released, replace=False)
    assert backends.production.digest(released) == staged[0].digest
    assert len(imports(cloud)) == 1


def test_latest_moves(
    backends: Backends, cloud: EmulatedCloud, staged: tuple[Reference, Reference], released: Reference
) -> None:
    latest = released.with_tag("latest")
    for image in staged:
        backends.importer.import_image(image, latest, replace=True)
        assert backends.production.digest(latest) == image.digest
    assert [request["mode"] for request in imports(cloud)] == ["Force", "Force"]


@pytest.mark.parametrize("other", [False, True], ids=["the same image", "another image"])
def test_somebody_who_is_faster(
    backends: Backends, cloud: EmulatedCloud, staged: tuple[Reference, Reference], released: Reference, *, other: bool
) -> None:
    theirs = Reference(cloud.staging.plain.host, "base", digest=staged[other].digest)
    cloud.registries.before_copy = lambda: copy_image(
        cloud.staging.plain, cloud.production.plain, theirs, released.repository, [released.tag]
    )
    if other:
        with pytest.raises(BadInput, match="A released tag never moves"):
            backends.importer.import_image(staged[0], released, replace=False)
    else:
        backends.importer.import_image(staged[0], released, replace=False)
    assert backends.production.digest(released) == theirs.digest


def test_a_staging_tag_that_moved_changes_nothing(
    backends: Backends, cloud: EmulatedCloud, staged: tuple[Reference, Reference], released: Reference
) -> None:
    """What was tested is imported, whatever its tag points to by now."""
    cloud.registries.before_copy = lambda: cloud.staging.plain.tag(
        Reference(cloud.staging.plain.host, "base", digest=staged[1].digest), "1"
    )
    backends.importer.import_image(staged[0], released, replace=False)
    assert backends.production.digest(released) == staged[0].digest


def test_what_production_serves_is_read_back(
    backends: Backends, cloud: EmulatedCloud, staged: tuple[Reference, Reference], released: Reference
) -> None:
    cloud.arm.faults.append(Fault("status", method="POST", path="importImage", status=200))
    with pytest.raises(Unreachable, match=f"serves nothing where {staged[0].digest} was imported"):
        backends.importer.import_image(staged[0], released, replace=False)


def test_a_tag_is_not_imported(backends: Backends, staged: tuple[Reference, Reference], released: Reference) -> None:
    with pytest.raises(BadInput, match="by digest"):
        backends.importer.import_image(staged[0].with_tag("1"), released, replace=False)


def test_an_image_that_staging_does_not_have(
    backends: Backends, staged: tuple[Reference, Reference], released: Reference
) -> None:
    with pytest.raises(BadInput, match="is not found"):
        backends.importer.import_image(staged[0].with_digest(f"sha256:{'0' * 64}"), released, replace=False)


def test_with_a_password(
    cloud: EmulatedCloud,
    repo: Path,
    staged: tuple[Reference, Reference],
    released: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud.staging.accounts["puller"] = PASSWORD
    monkeypatch.setenv("AML_IMAGES_AZURE__IMPORT_BY", "password")
    with pytest.raises(BadInput, match="no account for production to pull with is configured"):
        backends_for(load_settings(repo=repo)).importer.import_image(staged[0], released, replace=False)
    monkeypatch.setenv("STAGING_CLIENT_ID", "puller")
    monkeypatch.setenv("STAGING_CLIENT_SECRET", "a wrong one")
    with pytest.raises(Unreachable, match="authentication required") as refused:
        backends_for(load_settings(repo=repo)).importer.import_image(staged[0], released, replace=False)
    assert "a wrong one" not in repr(refused.value)
    monkeypatch.setenv("STAGING_CLIENT_SECRET", PASSWORD)
    backends = backends_for(load_settings(repo=repo))
    backends.importer.import_image(staged[0], released, replace=False)
    assert backends.production.digest(released) == staged[0].digest
    assert imports(cloud)[-1]["source"] == {
        "registryUri": cloud.staging.host,
        "sourceImage": f"base@{staged[0].digest}",
        "credentials": {"username": "puller", "password": PASSWORD},
    }


def test_an_import_that_takes_too_long(
    cloud: EmulatedCloud,
    repo: Path,
    staged: tuple[Reference, Reference],
    released: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AML_IMAGES_AZURE__IMPORT_TIMEOUT_MINUTES", "0.01")
    cloud.registries.held.clear()
    with pytest.raises(Unreachable, match=r"takes longer than 0\.01 minutes"):
        backends_for(load_settings(repo=repo)).importer.import_image(staged[0], released, replace=False)
    cloud.registries.held.set()


def test_throttled_and_interrupted(
    backends: Backends, cloud: EmulatedCloud, staged: tuple[Reference, Reference], released: Reference
) -> None:
    cloud.arm.fail(429, path="importImage", times=2, retry_after=1)
    cloud.arm.fail(503, path="/operations/", times=1, retry_after=1)
    cloud.arm.faults.append(Fault("reset", path="/operations/"))
    backends.importer.import_image(staged[0], released, replace=False)
    assert backends.production.digest(released) == staged[0].digest


def test_an_identity_that_may_not_import(
    backends: Backends, cloud: EmulatedCloud, staged: tuple[Reference, Reference], released: Reference
) -> None:
    cloud.arm.fail(403, path="importImage")
    with pytest.raises(Unreachable, match="this identity may not do that") as refused:
        backends.importer.import_image(staged[0], released, replace=False)
    assert "Data Importer" in refused.value.hint


def results(repo: Path) -> dict[str, CheckResult]:
    """What the checks find."""
    return {check.name: perform(check) for check in backends_for(load_settings(repo=repo)).checks}


def test_the_checks_of_a_cloud_that_is_well(cloud: EmulatedCloud, repo: Path) -> None:
    found = results(repo)
    assert found["identity"].found == "signed in by ManagedIdentityCredential"
    assert found["import into production"].found == cloud.environment["AML_IMAGES_AZURE__PRODUCTION_REGISTRY_ID"]
    assert [result for result in found.values() if not result.ok] == []


def test_the_checks_of_one_that_is_not(cloud: EmulatedCloud, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.staging.known = False
    monkeypatch.setenv(
        "AML_IMAGES_AZURE__PRODUCTION_REGISTRY_ID", cloud.environment["AML_IMAGES_AZURE__STAGING_REGISTRY_ID"]
    )
    broken = {name: result for name, result in results(repo).items() if not result.ok}
    assert set(broken) == {"staging registry", "import into production"}
    assert "does not know this identity" in broken["staging registry"].found
    assert (
        f"is the registry {cloud.staging.host}, not {cloud.production.host}" in broken["import into production"].found
    )
    assert all(result.hint for result in broken.values())


def test_settings_that_are_missing(cloud: EmulatedCloud, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AML_IMAGES_AZURE__PRODUCTION_REGISTRY_ID")
    monkeypatch.delenv("AML_IMAGES_AZURE__SUBSCRIPTION_ID")
    monkeypatch.delenv("AZURE_TOKEN_CREDENTIALS")
    broken = {name: result for name, result in results(repo).items() if not result.ok}
    assert "AML_IMAGES_AZURE__PRODUCTION_REGISTRY_ID" in broken["import into production"].hint
    assert "it is not known how to sign in" in broken["identity"].found
