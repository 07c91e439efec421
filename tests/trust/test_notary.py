"""Signatures that must pass, and all those that must not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.errors import BadInput
from aml_images_dagster.trust.certificates import Refused, check_chain, parse_identity
from aml_images_dagster.trust.encoding import (
    from_base64,
    from_base64url,
    json_object,
    to_base64,
    to_base64url,
    to_json,
)
from aml_images_dagster.trust.notary import ARTIFACT_TYPE, ENVELOPE, Trust, sign, verify
from aml_images_dagster.trust.referrers import Descriptor
from tests.trust.authority import KEYS, LEAF, Authority, certify, subject, usage

IMAGE = Descriptor("application/vnd.oci.image.manifest.v1+json", f"sha256:{'a' * 64}", 5)
NOW = datetime.now(UTC)
AUTHORITY = Authority()
TRUST = Trust((AUTHORITY.root,))
SIGNERS = {kind: AUTHORITY.signer(kind) for kind in KEYS}
GOOD = sign(IMAGE, SIGNERS["ec-p256"], now=NOW, lifetime=timedelta(hours=1)).content
SCHEME = "io.cncf.notary.signingScheme"


def refused(
    envelope: bytes, why: str | None = None, trust: Trust = TRUST, target: Descriptor = IMAGE, now: datetime = NOW
) -> None:
    with pytest.raises(Refused, match=why):
        verify(envelope, target, trust, now)


def changed(**parts) -> bytes:
    return to_json(json_object(GOOD) | parts)


def head(**parts) -> bytes:
    """The envelope with other protected attributes, which a signer of bad will could sign, too."""
    protected = json_object(from_base64url(json_object(GOOD)["protected"]))
    return changed(protected=to_base64url(to_json(protected | parts)))


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_a_signature_says_who_signed_what_and_when(kind):
    artifact = sign(IMAGE, SIGNERS[kind], now=NOW)
    assert (artifact.artifact_type, artifact.media_type) == (ARTIFACT_TYPE, ENVELOPE)
    signed = verify(artifact.content, IMAGE, TRUST, NOW)
    assert signed.by == "CN=image factory,O=Contoso,ST=WA,C=US"
    assert signed.signed == NOW.replace(microsecond=0)
    assert signed.expires is None
    assert not signed.is_timestamped
    assert signed.key == SIGNERS[kind].chain[0].public_key()


def test_the_manifest_names_the_certificates():
    thumbprints = json.loads(
        sign(IMAGE, SIGNERS["ec-p256"], now=NOW).annotations["io.cncf.notary.x509chain.thumbprint#S256"]
    )
    assert len(thumbprints) == 2


@pytest.mark.parametrize("target", [
    replace(IMAGE, digest=f"sha256:{'b' * 64}"),
    replace(IMAGE, size=6),
    replace(IMAGE, media_type="application/vnd.oci.image.index.v1+json"),
])  # fmt: skip
def test_a_signature_of_another_image(target):
    refused(GOOD, "is of sha256:a+, not of", target=target)


def test_a_signature_expires():
    verify(GOOD, IMAGE, TRUST, NOW + timedelta(minutes=59))
    refused(GOOD, "has expired", now=NOW + timedelta(hours=2))


def test_a_signature_ends_with_its_certificate():
    envelope = sign(IMAGE, SIGNERS["ec-p256"], now=NOW).content
    refused(envelope, "is valid from .* to", now=NOW + timedelta(days=60))
    refused(envelope, "is valid from", now=NOW - timedelta(days=60))


def test_a_signer_whom_no_root_names():
    refused(GOOD, "whom no trusted root names", Trust((Authority().root,)))
    refused(GOOD, "whom no trusted root names", Trust((Authority("test root").root,)))
    refused(GOOD, "whom no trusted root names", Trust(()))


@pytest.mark.parametrize("identity", ["C=US, ST=WA, O=Contoso", "x509.subject: C=US,ST=WA,O=Contoso,CN=image factory"])
def test_who_may_sign_is_named_by_parts_of_the_subject(identity):
    verify(GOOD, IMAGE, replace(TRUST, identities=(parse_identity(identity),)), NOW)


@pytest.mark.parametrize("identity", ["C=US, ST=WA, O=Fabrikam", "C=US, ST=WA, O=Contoso, CN=image factory 2"])
def test_who_is_not_named_may_not_sign(identity):
    refused(GOOD, "not one of those who may sign", replace(TRUST, identities=(parse_identity(identity),)))


def test_an_identity_that_is_none_is_bad_input():
    with pytest.raises(BadInput, match="no subject of a certificate"):
        parse_identity("Contoso")


@pytest.mark.parametrize(("envelope", "why"), [
    (b"", "cannot be read"),
    (b"[]", "cannot be read"),
    (b"[" * 100_000, "cannot be read"),
    (b"0" * 2**21, "too long"),
    (b'{"payload": "e30", "payload": "e30"}', "twice"),
    (changed(signature=""), "does not fit"),
    (changed(payload=to_base64url(to_json({"targetArtifact": replace(IMAGE, size=6).document}))), "does not fit"),
    (changed(header={}), "no certificates"),
    (changed(header={"x5c": []}), "no certificates"),
    (changed(header={"x5c": [1]}), "no certificates"),
    (changed(header={"x5c": ["AAAA"]}), "cannot be read"),
    (changed(header={"x5c": json_object(GOOD)["header"]["x5c"][:1]}), "was not issued by the next one"),
    (changed(header={"x5c": json_object(GOOD)["header"]["x5c"][::-1]}), "algorithm|does not fit"),
    (changed(header=json_object(GOOD)["header"] | {"other": 1}), "not understood"),
    (changed(other=1), "no envelope"),
    (head(alg="none"), "algorithm"),
    (head(alg="HS256"), "algorithm"),
    (head(alg="ES384"), "algorithm"),
    (head(other=1), "not understood"),
    (head(crit=["other", SCHEME]), "demands what is not understood"),
    (head(crit=[]), "demands what is not understood"),
    (head(crit=1), "demands what is not understood"),
    (head(cty="text/plain"), "another kind"),
    (head(**{SCHEME: "notary.x509.signingAuthority"}), "another kind"),
    (head(**{"io.cncf.notary.expiry": "soon"}), "cannot be read"),
    (head(**{"io.cncf.notary.expiry": "2100-01-01T00:00:00"}), "time zone"),
])  # fmt: skip
def test_an_envelope_that_is_not_as_it_must_be(envelope, why):
    refused(envelope, why)


@pytest.mark.parametrize(("extensions", "why"), [
    (LEAF[:1], "key usage must be critical"),
    ((LEAF[0], usage("digital_signature", critical=False)), "key usage must be critical"),
    ((LEAF[0], usage("content_commitment")), "digitalSignature"),
    ((LEAF[0], usage("digital_signature", "key_cert_sign")), "signing alone"),
    (((x509.BasicConstraints(ca=True, path_length=None), True), LEAF[1]), "signing alone"),
    ((*LEAF[:2], (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)), "another purpose"),
    ((*LEAF, (x509.InhibitAnyPolicy(0), True)), "demands what is not known here"),
])  # fmt: skip
def test_a_certificate_that_is_not_for_signing_code_signs_nothing(extensions, why):
    with pytest.raises(BadInput, match=why):
        sign(IMAGE, AUTHORITY.signer(extensions=extensions), now=NOW)


def test_a_leaf_issues_no_certificates():
    """A chain in which somebody who may sign plays authority."""
    leaf = AUTHORITY.signer()
    key = KEYS["ec-p256"]().public_key()
    forged = certify(subject("forged"), key, leaf.chain[0].subject, leaf._key, *LEAF)
    with pytest.raises(Refused, match=r"image factory.* is not one of an authority"):
        check_chain((forged, *leaf.chain), NOW)


@given(data=st.data())
def test_no_byte_of_a_signature_can_be_changed(data):
    document = json_object(GOOD)
    document["header"].pop("io.cncf.notary.signingAgent")  # nobody signs it
    envelope = bytearray(to_json(document))
    place = data.draw(st.integers(0, len(envelope) - 1))
    envelope[place] ^= data.draw(st.integers(1, 255))
    refused(bytes(envelope))


@given(data=st.data())
def test_no_bit_of_what_is_signed_nor_of_a_certificate_can_be_changed(data):
    document = json_object(GOOD)
    part = data.draw(st.sampled_from(["payload", "protected", "signature", "leaf", "root"]))
    certificates = document["header"]["x5c"]
    number = {"leaf": 0, "root": 1}.get(part)
    content = bytearray(from_base64url(document[part]) if number is None else from_base64(certificates[number]))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    if number is None:
        document[part] = to_base64url(bytes(content))
    else:
        certificates[number] = to_base64(bytes(content))
    refused(to_json(document))


def test_a_certificate_of_an_unknown_version_is_refused():
    document = json_object(GOOD)
    certificates = document["header"]["x5c"]
    version_3 = bytes.fromhex("a003020102")  # RFC 5280, 4.1: [0] EXPLICIT INTEGER 2
    assert version_3 in from_base64(certificates[0])
    certificates[0] = to_base64(from_base64(certificates[0]).replace(version_3, bytes.fromhex("a003020122"), 1))
    refused(to_json(document))


NAMES = st.sampled_from(["payload", "protected", "header", "signature", "x5c"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@given(st.binary(max_size=300) | DOCUMENTS.map(lambda document: json.dumps(document).encode()))
def test_whatever_is_read_is_refused_in_an_orderly_way(content):
    refused(content)
