"""Release, rollback and withdrawal in the profile `azure`, with the real SDKs against the emulated cloud."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.records import AttachedArtifact
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.release.production import Releaser
from aml_images_dagster.release.release_json import ReleaseJson, StagedReference
from aml_images_dagster.release.rollback import roll_back
from aml_images_dagster.release.withdrawal import withdraw
from aml_images_dagster.settings import load_settings
from aml_images_dagster.trust.referrers import Artifact, Descriptor, attach, walk
from aml_images_dagster.trust.signing import EvidenceSigner, trust_of
from aml_images_dagster.trust.statements import PROVENANCE, results_of_tests
from aml_images_dagster.trust.verification import verify_image
from tests.release.conftest import digests, release_image

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.registry.oci import OciRegistry
    from aml_images_dagster.settings import Settings
    from tests.conftest import PushNewImage
    from tests.emulators.azure.cloud import EmulatedCloud

pytestmark = pytest.mark.engine

PASSWORD = "correct-horse-battery-staple"


def attach_evidence(staging: Registry, image: Reference, settings: Settings) -> tuple[AttachedArtifact, ...]:
    """Sign an image with the key in the vault, and attach a statement and an SBOM."""
    descriptor = Descriptor.of(staging.existing(image))
    statement = results_of_tests("base/a", descriptor.digest, ())
    provenance = {**statement, "predicateType": PROVENANCE, "predicate": {"runDetails": {}}}
    sbom = Artifact("application/spdx+json", b"{}")
    attach(staging, image, EvidenceSigner.of(settings).evidence(descriptor, [sbom], [provenance]))
    return tuple(
        AttachedArtifact(kind=each.artifact_type, digest=each.digest, subject=each.subject)
        for each in walk(staging, image.with_digest(descriptor.digest))
    )


@pytest.mark.parametrize("import_by", ["identity", "password"])
def test_two_releases_a_roll_back_and_a_withdrawal(
    cloud: EmulatedCloud,
    staging: OciRegistry,
    push_new_image: PushNewImage,
    repository: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    import_by: str,
) -> None:
    monkeypatch.setenv("AML_IMAGES_AZURE__IMPORT_BY", import_by)
    if import_by == "password":
        monkeypatch.setenv("STAGING_CLIENT_ID", "puller")
        monkeypatch.setenv("STAGING_CLIENT_SECRET", PASSWORD)
        cloud.staging.accounts["puller"] = PASSWORD
    (tmp_path / "images").mkdir()
    settings = load_settings(repo=tmp_path / "images")
    backends = backends_for(settings)

    def build(number: int) -> ReleaseJson:
        images = []
        for name in ("debian12", "ubuntu22"):
            tag = f"{name}--20261123.0000000{number}"
            pushed = push_new_image(repository, f"{name}{number}")
            copy_image(staging, cloud.staging.plain, pushed.with_digest(pushed.digest), "base", [tag])
            staged = StagedReference(reference=f"{cloud.staging.host}/base:{tag}", digest=pushed.digest)
            destinations = (f"public/azureml/{name}:v{number}", f"public/azureml/{name}:latest")
            image = release_image("base", name, "1")
            attached = attach_evidence(backends.staging, Reference.parse(staged.reference), settings)
            images.append(
                image.model_copy(update={"staging": staged, "destinations": destinations, "evidence": attached})
            )
        return ReleaseJson(
            build=f"20261123.0000000{number}",
            commit="abc",
            source="",
            created=datetime(2026, 11, 23, tzinfo=UTC) + timedelta(hours=number),
            release_tag=f"v{number}",
            images=tuple(images),
        )

    def served(names: dict[str, str]) -> dict[str, str | None]:
        return {name: backends.production.digest(Reference.parse(f"{cloud.production.host}/{name}")) for name in names}

    def now() -> datetime:
        return datetime.now(UTC)

    told: list[str] = []
    first, second = build(1), build(2)
    for release in (first, second):
        Releaser(backends, settings, "somebody", told.append).release(release)
        wanted = digests(release, latest=False) | digests(release, latest=True)
        assert served(wanted) == wanted
        for name in digests(release, latest=True):
            there = Reference.parse(f"{cloud.production.host}/{name}")
            assert verify_image(backends.production, there, trust_of(settings), settings.trust.required, now()).ok
    roll_back("base/debian12", "", "it is broken", backends, settings, "somebody", told.append)
    latest = digests(second, latest=True) | {"public/azureml/debian12:latest": first.images[0].staging.digest}
    assert served(latest) == latest
    withdraw("base/debian12", "v2", "a hole", backends, settings, "somebody", told.append)
    assert set(served({"public/azureml/debian12:v2": ""}).values()) == {None}
    assert served(latest) == latest
    assert (
        backends.production.digest(
            Reference(cloud.production.host, "public/azureml/debian12", digest=second.images[0].staging.digest)
        )
        is not None
    )
