"""Provenance and test results: what they say, and that nobody can change it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.trust.certificates import Refused
from aml_images_dagster.trust.dsse import BUNDLE, key_hint, sign_statement, verify_statement
from aml_images_dagster.trust.encoding import from_base64, json_object, to_base64, to_json
from aml_images_dagster.trust.referrers import Descriptor
from aml_images_dagster.trust.signing import EvidenceSigner
from aml_images_dagster.trust.statements import PROVENANCE, TEST_RESULT, TestRun, provenance, results_of_tests
from tests.trust.authority import KEYS, Authority
from tests.trust.samples import IMAGE, SBOM, image_build, statements

DIGEST = f"sha256:{'a' * 64}"
AUTHORITY = Authority()
SIGNERS = {kind: AUTHORITY.signer(kind) for kind in KEYS}
EC = SIGNERS["ec-p256"]
KEY = EC.chain[0].public_key()
GOOD = sign_statement(provenance(image_build(DIGEST)), EC).content


def refused(bundle: bytes, why: str | None = None, keys=(KEY,), digest: str = DIGEST, kind: str = PROVENANCE) -> None:
    with pytest.raises(Refused, match=why):
        verify_statement(bundle, keys, digest, kind)


def changed(**parts) -> bytes:
    document = json_object(GOOD)
    return to_json(document | {"dsseEnvelope": document["dsseEnvelope"] | parts})


def test_provenance_says_where_an_image_comes_from():
    said = provenance(image_build(DIGEST, commit=f"{'3f' * 20}-dirty"))
    assert said["subject"] == [{"name": IMAGE, "digest": {"sha256": "a" * 64}}]
    definition = said["predicate"]["buildDefinition"]
    source, base, parent = definition["resolvedDependencies"]
    assert source == {
        "name": "source",
        "uri": f"git+https://git.example/images.git@{'3f' * 20}",
        "digest": {"gitCommit": "3f" * 20},
        "annotations": {"dirty": True},
    }
    assert base == {
        "name": "base",
        "uri": f"pkg:oci/debian@sha256%3A{'1' * 64}?repository_url=docker.io/library/debian&tag=12",
        "digest": {"sha256": "1" * 64},
    }
    assert (parent["name"], parent["annotations"]) == ("parent", {"image": "tools/base"})
    assert definition["externalParameters"]["image"] == IMAGE
    assert definition["internalParameters"]["contentKey"] == "ab" * 32
    assert definition["internalParameters"]["reasons"] == ["base debian:12 moved"]
    details = said["predicate"]["runDetails"]
    assert details["builder"]["id"] == "https://contoso.example/images"
    assert details["metadata"] == {
        "invocationId": "20261126.1a2b3c4d",
        "startedOn": "2026-11-26T07:00:00Z",
        "finishedOn": "2026-11-26T08:00:00Z",
    }


@pytest.mark.parametrize(("source", "uri"), [
    ("ssh://git@git.example/images", "git+ssh://git@git.example/images@"),
    ("git@git.example:contoso/images", "git@git.example:contoso/images@"),
    ("file:///home/somebody/images", None),
    ("/home/somebody/images", None),
])  # fmt: skip
def test_the_source_is_a_remote_and_no_folder_of_a_machine(source, uri):
    said = provenance(image_build(DIGEST, source=source))["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert said.get("uri", "").startswith(uri or "")
    assert ("uri" in said) == (uri is not None)
    assert said["digest"] == {"gitCommit": "3f" * 20}


def test_the_source_of_a_folder_without_git_is_not_named():
    said = provenance(image_build(DIGEST, source="/somewhere", commit=""))["predicate"]["buildDefinition"]
    assert [each["name"] for each in said["resolvedDependencies"]] == ["base", "parent"]


def test_test_results_say_what_passed_and_what_failed():
    runs = (TestRun("mpi", passed=True, url="https://ml.example/job", tested_in="1"), TestRun("torch", passed=False))
    said = results_of_tests(IMAGE, DIGEST, runs)["predicate"]
    assert said["result"] == "FAILED"
    assert (said["passedTests"], said["failedTests"]) == (["mpi"], ["torch"])
    assert said["configuration"][0] == {
        "name": "mpi",
        "uri": "https://ml.example/job",
        "annotations": {"testedIn": "1"},
    }
    assert results_of_tests(IMAGE, DIGEST, runs[:1])["predicate"]["result"] == "PASSED"


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_a_signed_statement_is_read_back(kind):
    for statement in statements(DIGEST):
        artifact = sign_statement(statement, SIGNERS[kind])
        assert artifact.artifact_type == BUNDLE
        assert artifact.annotations["dev.sigstore.bundle.predicateType"] == statement["predicateType"]
        key = SIGNERS[kind].chain[0].public_key()
        assert verify_statement(artifact.content, [KEY, key], DIGEST, statement["predicateType"]) == statement
        assert json_object(artifact.content)["verificationMaterial"] == {"publicKey": {"hint": key_hint(key)}}


def test_a_statement_about_another_image_or_of_another_kind():
    refused(GOOD, "about another image", digest=f"sha256:{'b' * 64}")
    refused(GOOD, "says something else", kind=TEST_RESULT)


def test_a_statement_by_another_key():
    refused(GOOD, "altered, or signed with another key", keys=[SIGNERS["rsa-2048"].chain[0].public_key()])
    refused(GOOD, "altered, or signed with another key", keys=[AUTHORITY.signer().chain[0].public_key()])
    refused(GOOD, "altered, or signed with another key", keys=[])


@pytest.mark.parametrize(("bundle", "why"), [
    (b"", "cannot be read"),
    (b"{}", "no bundle"),
    (b"0" * 2**25, "too long"),
    (changed(payloadType="text/plain"), "no statement"),
    (changed(signatures=[]), "one signature"),
    (changed(signatures=[{"sig": ""}, {"sig": ""}]), "one signature"),
    (changed(signatures=[{"sig": ""}]), "altered"),
    (changed(signatures=[{"sig": "?"}]), "cannot be read"),
    (changed(payload="e30="), "altered"),
])  # fmt: skip
def test_a_bundle_that_is_not_as_it_must_be(bundle, why):
    refused(bundle, why)


@given(data=st.data(), part=st.sampled_from(["payload", "sig"]))
def test_no_bit_of_a_statement_or_its_signature_can_be_changed(data, part):
    envelope = json_object(GOOD)["dsseEnvelope"]
    signature = envelope["signatures"][0]
    content = bytearray(from_base64(envelope["payload"] if part == "payload" else signature["sig"]))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    text = to_base64(bytes(content))
    refused(changed(payload=text) if part == "payload" else changed(signatures=[signature | {"sig": text}]))


def test_all_evidence_is_made_in_one_step_each_document_with_its_signature():
    image = Descriptor("application/vnd.oci.image.manifest.v1+json", DIGEST, 5)
    sbom, *bundles, signature = EvidenceSigner(EC).evidence(image, [SBOM], statements(DIGEST))
    assert [each.artifact_type for each in sbom.attached] == [signature.artifact_type]
    assert [each.artifact_type for each in bundles] == [BUNDLE, BUNDLE]
    assert sbom.content == SBOM.content
