"""`aml-images verify`: an image with all evidence, and those that are refused, each with one message."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from click.testing import CliRunner

from aml_images_dagster.cli.main import cli
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import OCI_INDEX
from aml_images_dagster.trust import referrers
from aml_images_dagster.trust.certificates import Refused
from aml_images_dagster.trust.encoding import to_json
from aml_images_dagster.trust.notary import Trust
from aml_images_dagster.trust.referrers import Artifact, Descriptor
from aml_images_dagster.trust.signing import EvidenceSigner
from aml_images_dagster.trust.verification import verify_image
from tests.trust.authority import Authority
from tests.trust.samples import SBOM, statements

pytestmark = pytest.mark.engine

ALL = ("signature", "provenance", "sbom")


@pytest.fixture
def evidence(real_registry, image, authority):
    """Everything of the image, as a signer makes it."""

    def make(signer=None) -> list[Artifact]:
        target = Descriptor.of(real_registry.existing(image))
        signer = signer or authority.signer()
        return EvidenceSigner(signer).evidence(target, [SBOM], statements(image.digest))

    return make


def look(real_registry, image, authority, required=ALL):
    return verify_image(real_registry, image, Trust((authority.root,)), required, datetime.now(UTC))


def refusal(real_registry, image, authority, required=ALL) -> str:
    with pytest.raises(Refused) as refused:
        look(real_registry, image, authority, required).require()
    assert refused.value.exit_code == 1
    return refused.value.what


def test_an_image_with_all_evidence_is_verified(real_registry, image, authority, evidence):
    digests = referrers.attach(real_registry, image, evidence())
    found = look(real_registry, image.with_tag("1"), authority)
    found.require()
    assert found.ok
    assert found.image == image
    assert {digest for check in found.checks for digest in check.artifacts} == set(digests)
    assert [check.name for check in found.checks] == ["signature", "provenance", "sbom", "test results"]
    signature, provenance, sbom, tests = (check.found for check in found.checks)
    assert signature.startswith("by CN=image factory,O=Contoso,ST=WA,C=US (")
    assert provenance == "build 20261126.1a2b3c4d of https://contoso.example/images"
    assert sbom == "SPDX"
    assert tests == "PASSED, 1 scenario"


def test_an_image_without_evidence(real_registry, image, authority):
    assert refusal(real_registry, image, authority) == "signature: not signed; provenance: none; sbom: none"
    look(real_registry, image, authority, ()).require()


def test_an_image_that_somebody_else_signed(real_registry, image, authority, evidence):
    referrers.attach(real_registry, image, evidence(Authority("another root").signer()))
    said = refusal(real_registry, image, authority)
    assert "signature: signed by CN=image factory,O=Contoso,ST=WA,C=US, whom no trusted root names" in said
    assert "provenance: there is no valid signature whose key could vouch for it" in said
    assert "sbom: SPDX: signed by" in said


def test_an_altered_image_with_the_evidence_of_the_one_before(
    real_registry, image, authority, evidence, push_new_image
):
    altered = image.with_digest(push_new_image(image.repository, "1").digest)
    referrers.attach(real_registry, altered, evidence())
    said = refusal(real_registry, image.with_tag("1"), authority)
    assert f"the signature is of {image.digest}, not of {altered.digest}" in said
    assert "about another image" in said or "no valid signature" in said
    assert "sbom: SPDX: the signature is of" in said
    referrers.delete(real_registry, altered)


def test_provenance_that_was_altered_or_is_by_another_key(real_registry, image, authority, evidence):
    sbom, provenance, tests, signature = evidence()
    document = json.loads(provenance.content)
    document["dsseEnvelope"]["payload"] = document["dsseEnvelope"]["payload"][:-4] + "AAAA"
    referrers.attach(real_registry, image, [sbom, replace(provenance, content=to_json(document)), tests, signature])
    assert (
        refusal(real_registry, image, authority)
        == "provenance: it was altered, or signed with another key than the image"
    )
    found = look(real_registry, image, authority, ("signature", "sbom"))
    found.require()


def test_an_sbom_that_nobody_signed_does_not_count(real_registry, image, authority, evidence):
    _, *rest = evidence()
    referrers.attach(real_registry, image, [SBOM, *rest])
    assert refusal(real_registry, image, authority) == "sbom: SPDX: not signed"


def test_what_others_attach_beside_the_evidence_changes_nothing(real_registry, image, authority, evidence):
    referrers.attach(real_registry, image, evidence())
    stranger = EvidenceSigner(Authority("another root").signer())
    target = Descriptor.of(real_registry.existing(image))
    forged = stranger.evidence(target, [replace(SBOM, content=b"{}")], statements(image.digest))
    broken = Artifact("application/vnd.cncf.notary.signature", b"{}", "application/cose")
    referrers.attach(real_registry, image, [*forged, broken])
    found = look(real_registry, image, authority)
    found.require()
    assert [len(check.artifacts) for check in found.checks] == [1, 1, 1, 1]


def test_an_index_has_an_sbom_for_each_of_its_platforms(real_registry, image, authority, push_new_image):
    arm = image.with_digest(push_new_image(image.repository, "arm").digest)
    platforms = {"amd64": image, "arm64": arm}
    entries = [
        Descriptor.of(real_registry.existing(of)).document | {"platform": {"os": "linux", "architecture": name}}
        for name, of in platforms.items()
    ]
    body = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    manifest = Manifest(f"sha256:{sha256(body).hexdigest()}", OCI_INDEX, body)
    real_registry.put_manifest(image.repository, "index", manifest)
    index = image.with_digest(manifest.digest)
    signer = EvidenceSigner(authority.signer())
    _, *of_all = signer.evidence(Descriptor.of(manifest), [SBOM], statements(index.digest))
    referrers.attach(real_registry, index, of_all)
    for of, missing in ((image, "linux/amd64: SPDX; linux/arm64: none"), (arm, "")):
        sbom, *_ = signer.evidence(Descriptor.of(real_registry.existing(of)), [SBOM], [])
        referrers.attach(real_registry, of, [sbom])
        if missing:
            assert refusal(real_registry, index, authority) == f"sbom: {missing}"
    look(real_registry, index, authority).require()
    referrers.delete(real_registry, index)
    referrers.delete(real_registry, arm)


def test_an_image_that_is_not_there(real_registry, image, authority):
    with pytest.raises(BadInput, match="no such image"):
        look(real_registry, image.with_tag("none"), authority)


class TestCommand:
    @pytest.fixture
    def run(self, real_registry, authority, tmp_path, monkeypatch):
        monkeypatch.setenv("AML_IMAGES_TRUSTED_REGISTRIES", real_registry.host)
        authority.write_root(tmp_path / "root.pem")
        monkeypatch.setenv("AML_IMAGES_TRUST__ROOTS", str(tmp_path / "root.pem"))
        (tmp_path / "repository").mkdir()
        monkeypatch.chdir(tmp_path / "repository")
        return lambda *words: CliRunner().invoke(cli, ["verify", *map(str, words)])

    def test_a_verified_image(self, run, real_registry, image, evidence):
        referrers.attach(real_registry, image, evidence())
        done = run(image)
        assert done.exit_code == 0, done.output
        assert "Verified." in done.output
        document = json.loads(run(image, "--json").output)
        assert document["verified"]
        assert not document["test_key"]
        assert document["digest"] == image.digest
        assert {each["name"]: each["ok"] for each in document["evidence"]} == {
            "signature": True,
            "provenance": True,
            "sbom": True,
            "test results": True,
        }
        assert document["signed_by"] == ["CN=image factory,O=Contoso,ST=WA,C=US"]

    def test_a_refused_image(self, run, image):
        done = run(image)
        assert done.exit_code == 1
        assert "Refused." in done.output
        assert "not signed" in done.output
        assert not json.loads(run(image, "--json").output)["verified"]

    def test_bad_input(self, run, image):
        for reference in ("UPPER CASE", image.with_tag("none")):
            assert isinstance(run(reference).exception, BadInput)

    def test_a_reference_without_a_registry_is_asked_of_nobody(self, run):
        refused = run("library/debian:12").exception
        assert isinstance(refused, BadInput)
        assert str(refused).startswith("REFERENCE: 'library/debian:12' does not begin with a registry")
        assert "/library/debian:12." in refused.hint

    @pytest.mark.parametrize("name", ["hello", "apps/hello"])
    def test_a_name_is_that_of_an_image_of_the_repository(self, run, name):
        refused = run(name).exception
        assert isinstance(refused, BadInput)
        assert "there is no folder" in str(refused)

    def test_the_test_key_of_a_laptop_is_named(self, run, real_registry, image, monkeypatch, tmp_path):
        from aml_images_dagster.trust.keys import laptop_key

        monkeypatch.delenv("AML_IMAGES_TRUST__ROOTS")
        unsigned = run(image)
        assert unsigned.exit_code == 1
        assert "which proves nothing" not in unsigned.output, "nobody has signed it"
        assert not json.loads(run(image, "--json").output)["test_key"]
        signer = EvidenceSigner(laptop_key(tmp_path / "repository" / ".aml-images"))
        target = Descriptor.of(real_registry.existing(image))
        referrers.attach(real_registry, image, signer.evidence(target, [SBOM], statements(image.digest)))
        done = run(image)
        assert done.exit_code == 0, done.output
        assert "which proves nothing" in done.output
        assert json.loads(run(image, "--json").output)["test_key"]
