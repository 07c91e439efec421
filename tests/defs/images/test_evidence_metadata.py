"""What the UI shows of what is attached to an image."""

from __future__ import annotations

import pytest

from aml_images_dagster.builds.records import AttachedArtifact, EvidenceRecord
from aml_images_dagster.defs.images.description import evidence_metadata
from tests.records import DIGEST

REPOSITORY = "https://registry.example/v2/apps"


def attached(name: str, number: int) -> AttachedArtifact:
    return AttachedArtifact(
        kind="application/x", digest=f"sha256:{number:064}", subject=DIGEST, name=name, content=f"sha256:{number:063}c"
    )


def evidence(**fields) -> EvidenceRecord:
    usual = {
        "image": "apps/hello",
        "digest": DIGEST,
        "artifacts": (
            attached("SPDX", 1),
            attached("CycloneDX", 2),
            attached("provenance", 3),
            attached("signature", 4),
        ),
        "signed_by": "CN=image factory,O=Contoso",
        "is_test_key": False,
        "packages": 12,
        "without_licence": 2,
        "licences": {"MIT": 7, "GPL-2.0-only OR LicenseRef-x|y": 3},
        "attached_in": "20261126.aaaaaaaa",
    }
    return EvidenceRecord.model_validate(usual | fields)


def shown(**fields) -> dict:
    return {name: value.value for name, value in evidence_metadata(evidence(**fields), REPOSITORY).items()}


def rows(**fields) -> list:
    return [record.data for record in evidence_metadata(evidence(**fields), REPOSITORY)["evidence"].records]


def test_packages_licences_signer_and_links_to_the_documents():
    metadata = shown()
    assert metadata["packages"] == 12
    assert metadata["licences"].startswith("`MIT` 7, ")
    assert metadata["licences"].endswith("`none` 2")
    assert metadata["signed_by"] == "CN=image factory,O=Contoso"
    assert metadata["sbom"] == (
        f"[SPDX]({REPOSITORY}/blobs/sha256:{1:063}c), [CycloneDX]({REPOSITORY}/blobs/sha256:{2:063}c)"
    )
    assert metadata["provenance"] == f"[provenance]({REPOSITORY}/blobs/sha256:{3:063}c)"
    assert "test_results" not in metadata
    assert rows()[-1] == {"artifact": "signature", "manifest": f"{REPOSITORY}/manifests/sha256:{4:064}"}


def test_a_test_key_is_called_one():
    assert "proves nothing" in shown(is_test_key=True)["signed_by"]


@pytest.mark.parametrize("unread", [(), ("usr/lib/sysimage/rpm/Packages.db: not read",)])
def test_what_could_not_be_read_is_named(unread):
    assert ("not_read" in shown(unread=unread)) == bool(unread)


def test_an_image_without_evidence_shows_nothing():
    assert evidence_metadata(None, REPOSITORY) == {}


def test_a_record_of_an_earlier_version_has_its_table_and_no_links():
    earlier = AttachedArtifact.model_validate({"kind": "application/spdx+json", "digest": DIGEST, "subject": DIGEST})
    assert [row["artifact"] for row in rows(artifacts=(earlier,))] == ["application/spdx+json"]
    assert "sbom" not in shown(artifacts=(earlier,), licences={})
