"""Signed statements: DSSE envelopes in bundles of sigstore, which cosign and @sigstore/verify read.

A bundle names no certificate but a key, by a hint. There is no transparency log: the key is one that the reader has, or
that of a signature of the image.

Source: https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md,
https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto (v0.3).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from aml_images_dagster.trust.certificates import Refused
from aml_images_dagster.trust.encoding import from_base64, json_object, text_of, to_base64, to_json
from aml_images_dagster.trust.keys import der_signature, digest_of, fits, jws_algorithm
from aml_images_dagster.trust.referrers import Artifact
from aml_images_dagster.trust.statements import says_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aml_images_dagster.trust.certificates import PublicKey
    from aml_images_dagster.trust.keys import Signer

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_CONTENT_ANNOTATION = "dev.sigstore.bundle.content"
PREDICATE_ANNOTATION = "dev.sigstore.bundle.predicateType"
_LONGEST = 16 * 2**20


def sign_statement(statement: Mapping[str, Any], signer: Signer) -> Artifact:
    """A signed statement, ready to be attached to the image that it is about.

    Raises:
        Unreachable: Who has the key does not answer or refuses.
    """
    payload = to_json(statement)
    key = signer.chain[0].public_key()
    algorithm = _algorithm(key)
    signature = signer.sign(algorithm, digest_of(algorithm, _pae(payload)))
    if algorithm.startswith("ES"):
        signature = der_signature(signature)
    bundle = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key_hint(key)}},
        "dsseEnvelope": {
            "payload": to_base64(payload),
            "payloadType": _PAYLOAD,
            # cosign passes over signatures whose key id is not its own name of the key.
            "signatures": [{"sig": to_base64(signature), "keyid": ""}],
        },
    }
    return Artifact(
        BUNDLE,
        to_json(bundle),
        annotations={
            _CONTENT_ANNOTATION: "dsse-envelope",
            PREDICATE_ANNOTATION: statement["predicateType"],
        },
    )


def verify_statement(bundle: bytes, keys: Iterable[PublicKey], digest: str, predicate_type: str) -> dict[str, Any]:
    """The statement of a bundle.

    Args:
        bundle: The content of the artifact.
        keys: Keys that count.
        digest: The image that the statement must be about.
        predicate_type: What it must say of it.

    Raises:
        Refused: It was altered, is about something else, or was signed with another key.
    """
    if len(bundle) > _LONGEST:
        raise Refused("it is too long to be a signed statement")
    try:
        payload, signature = _opened(json_object(bundle))
        if not any(_fits(key, signature, payload) for key in keys):
            raise Refused("it was altered, or signed with another key than the image")
        statement = json_object(payload)
    except (ValueError, TypeError) as error:
        raise Refused(f"it cannot be read: {error}") from None
    if statement.get("predicateType") != predicate_type:
        raise Refused(f"it says something else: {statement.get('predicateType')}")
    if not says_of(statement, digest):
        raise Refused("it is about another image")
    return statement


def key_hint(key: PublicKey | Any) -> str:
    """A name of a key: sha256 of it, base64. Source: the one that sigstore's clients use."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return to_base64(hashlib.sha256(der).digest())


def _opened(document: Mapping[str, Any]) -> tuple[bytes, bytes]:
    envelope = document.get("dsseEnvelope")
    signatures = envelope.get("signatures") if isinstance(envelope, dict) else None
    if document.get("mediaType") != BUNDLE or not isinstance(envelope, dict):
        raise Refused("it is no bundle of sigstore")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise Refused("it does not have one signature")
    if envelope.get("payloadType") != _PAYLOAD:
        raise Refused("what is signed is no statement of in-toto")
    return from_base64(text_of(envelope, "payload")), from_base64(text_of(signatures[0], "sig"))


def _fits(key: PublicKey, signature: bytes, payload: bytes) -> bool:
    algorithm = _algorithm(key)
    if not isinstance(key, rsa.RSAPublicKey):
        try:
            r, s = decode_dss_signature(signature)
        except ValueError:
            return False
        size = (key.curve.key_size + 7) // 8
        if max(r, s).bit_length() > 8 * size:
            return False
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    return fits(key, algorithm, signature, _pae(payload))


def _algorithm(key: Any) -> str:
    """What cosign and @sigstore/verify expect of a key: PKCS#1 v1.5 with SHA-256 for RSA."""
    return "RS256" if isinstance(key, rsa.RSAPublicKey) else jws_algorithm(key)


def _pae(payload: bytes) -> bytes:
    """What is signed. Source: DSSE, "PAE"."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)
