"""Signatures of the Notary Project, in JWS envelopes: the ones that `notation` makes and verifies.

Source: https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md and
signature-envelope-jws.md. Envelopes in COSE are not read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from aml_images_dagster.errors import BadInput
from aml_images_dagster.trust.certificates import (
    PublicKey,
    Refused,
    RevocationList,
    check_chain,
    check_revocation,
    has_identity,
    name_of,
)
from aml_images_dagster.trust.encoding import (
    from_base64,
    from_base64url,
    json_object,
    text_of,
    to_base64,
    to_base64url,
    to_json,
)
from aml_images_dagster.trust.keys import digest_of, fits, jws_algorithm
from aml_images_dagster.trust.referrers import Artifact, Descriptor
from aml_images_dagster.trust.timestamps import check_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aml_images_dagster.trust.keys import Signer

ARTIFACT_TYPE = "application/vnd.cncf.notary.signature"
ENVELOPE = "application/jose+json"
_PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
_THUMBPRINTS = "io.cncf.notary.x509chain.thumbprint#S256"
_SCHEME = "io.cncf.notary.signingScheme"
_TIME = "io.cncf.notary.signingTime"
_EXPIRY = "io.cncf.notary.expiry"
_AGENT = "io.cncf.notary.signingAgent"
_TIMESTAMP = "io.cncf.notary.timestampSignature"
_X509 = "notary.x509"
_LONGEST = 2**20


@dataclass(frozen=True)
class Trust:
    """Whose signatures count.

    Attributes:
        roots: Root certificates that are trusted to name who signs.
        identities: What the subject of a signing certificate must have, one of these; none: anybody.
        timestamp_roots: Root certificates of trusted timestamp services.
        is_test: Whether the root is this machine's test key, which proves nothing.
        revocation_lists: Of issuers of the certificates; none: nothing is looked up.
    """

    roots: tuple[x509.Certificate, ...]
    identities: tuple[x509.Name, ...] = ()
    timestamp_roots: tuple[x509.Certificate, ...] = ()
    is_test: bool = False
    revocation_lists: tuple[RevocationList, ...] = ()


@dataclass(frozen=True)
class Signed:
    """What a valid signature says.

    Attributes:
        by: Subject of the signing certificate.
        key: Its key.
        signed: When it was signed: by a timestamp service if there is a timestamp, else by the signer's own clock.
        is_timestamped: Whether a timestamp service says so.
        expires: When the signature expires; None: with its certificate.
        annotations: What is said of the image.
    """

    by: str
    key: PublicKey
    signed: datetime
    is_timestamped: bool
    expires: datetime | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def sign(
    target: Descriptor,
    signer: Signer,
    *,
    now: datetime,
    lifetime: timedelta | None = None,
    timestamp: Callable[[bytes], bytes] | None = None,
) -> Artifact:
    """A signature of an image or of another manifest, ready to be attached to it.

    Args:
        target: What is signed.
        signer: Signs.
        now: The time.
        lifetime: When it expires, from now.
        timestamp: Gives the timestamp of a signature.

    Raises:
        BadInput: The signer's certificates are not good for signing.
        Unreachable: Who has the key, or the timestamp service, does not answer or refuses.
    """
    try:
        check_chain(signer.chain, now)
    except Refused as refused:
        raise BadInput(
            refused.what,
            where="trust.signing_key",
            hint="A signature with it would not be accepted. Get a certificate for signing code.",
        ) from None
    algorithm = jws_algorithm(signer.chain[0].public_key())
    protected: dict[str, Any] = {
        "alg": algorithm,
        "cty": _PAYLOAD,
        _SCHEME: _X509,
        _TIME: _written(now),
    }
    if lifetime:
        protected[_EXPIRY] = _written(now + lifetime)
    protected["crit"] = [name for name in (_SCHEME, _EXPIRY) if name in protected]
    head, payload = to_base64url(to_json(protected)), to_base64url(to_json({"targetArtifact": target.document}))
    signature = signer.sign(algorithm, digest_of(algorithm, f"{head}.{payload}".encode()))
    header: dict[str, Any] = {"x5c": [to_base64(_der(each)) for each in signer.chain], _AGENT: "aml-images"}
    if timestamp:
        header[_TIMESTAMP] = to_base64(timestamp(signature))
    envelope = {"payload": payload, "protected": head, "header": header, "signature": to_base64url(signature)}
    thumbprints = [each.fingerprint(hashes.SHA256()).hex() for each in signer.chain]
    return Artifact(
        ARTIFACT_TYPE,
        to_json(envelope),
        ENVELOPE,
        {_THUMBPRINTS: json.dumps(thumbprints), "org.opencontainers.image.created": _written(now)},
    )


def verify(envelope: bytes, target: Descriptor, trust: Trust, now: datetime) -> Signed:
    """What a signature says of an image or of another manifest.

    All checks of the Notary Project's level `strict` are made; revocation by the lists that are given.

    Args:
        envelope: The content of the signature.
        target: What it must be of.
        trust: Whose signatures count.
        now: The time.

    Raises:
        Refused: The signature is not valid, has expired, is of something else, or by somebody who is not trusted.
    """
    if len(envelope) > _LONGEST:
        raise Refused("the signature is too long to be one")
    try:
        return _verify(json_object(envelope), target, trust, now)
    except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Refused(f"the signature cannot be read: {error}") from None


def _verify(document: Mapping[str, Any], target: Descriptor, trust: Trust, now: datetime) -> Signed:
    header = document.get("header")
    if set(document) != {"payload", "protected", "header", "signature"} or not isinstance(header, dict):
        raise Refused("the signature is no envelope of the Notary Project")
    protected = json_object(from_base64url(text_of(document, "protected")))
    chain = _certificates(header)
    expires = _check_head(protected, header)
    signature = from_base64url(text_of(document, "signature"))
    key = chain[0].public_key()
    algorithm = _algorithm(chain[0])
    if protected.get("alg") != algorithm:
        raise Refused(f"the algorithm of the signature is {protected.get('alg')}, that of its key is {algorithm}")
    payload = text_of(document, "payload")
    if not fits(key, algorithm, signature, f"{document['protected']}.{payload}".encode()):
        raise Refused("the signature does not fit what it signs: it was altered")
    signed, is_timestamped = _time(protected, _TIME), False
    moment = now
    if _TIMESTAMP in header and trust.timestamp_roots:
        signed = moment = check_timestamp(
            from_base64(text_of(header, _TIMESTAMP)), signature, trust.timestamp_roots, now
        )
        is_timestamped = True
    check_chain(chain, moment)
    _check_signer(chain, trust)
    check_revocation(chain, trust.revocation_lists, now, signed if is_timestamped else None)
    if expires and expires <= now:
        raise Refused(f"the signature has expired ({expires:%Y-%m-%d})")
    said = json_object(from_base64url(payload))
    annotations = _check_target(said, target)
    assert isinstance(key, PublicKey)  # noqa: S101 - it has verified
    return Signed(name_of(chain[0]), key, signed, is_timestamped, expires, annotations)


def _check_head(protected: Mapping[str, Any], header: Mapping[str, Any]) -> datetime | None:
    """Refuse what is not understood. Gives the time at which the signature expires."""
    unknown = sorted(
        {*protected} - {"alg", "cty", "crit", _SCHEME, _TIME, _EXPIRY} | {*header} - {"x5c", _AGENT, _TIMESTAMP}
    )
    if unknown:
        raise Refused(f"the signature has attributes that are not understood: {', '.join(unknown)}")
    expected = [_SCHEME, *([_EXPIRY] if _EXPIRY in protected else ())]
    critical = protected.get("crit")
    if not isinstance(critical, list) or sorted(map(str, critical)) != sorted(expected):
        raise Refused("the signature demands what is not understood, or not what it must")
    if protected.get("cty") != _PAYLOAD or protected.get(_SCHEME) != _X509:
        raise Refused("the signature is of another kind than notary.x509")
    return _time(protected, _EXPIRY) if _EXPIRY in protected else None


def _certificates(header: Mapping[str, Any]) -> list[x509.Certificate]:
    chain = header.get("x5c")
    if not isinstance(chain, list) or not chain or not all(isinstance(each, str) for each in chain):
        raise Refused("the signature has no certificates")
    return [x509.load_der_x509_certificate(from_base64(each)) for each in chain]


def _algorithm(leaf: x509.Certificate) -> str:
    try:
        return jws_algorithm(leaf.public_key())
    except BadInput as error:
        raise Refused(error.what) from None


def _check_signer(chain: Sequence[x509.Certificate], trust: Trust) -> None:
    who = name_of(chain[0])
    if chain[-1] not in trust.roots:
        raise Refused(f"signed by {who}, whom no trusted root names")
    if trust.identities and not any(has_identity(chain[0], identity) for identity in trust.identities):
        raise Refused(f"signed by {who}, who is not one of those who may sign")


def _check_target(said: Mapping[str, Any], target: Descriptor) -> Mapping[str, str]:
    signed = said.get("targetArtifact")
    if set(said) != {"targetArtifact"} or not isinstance(signed, dict):
        raise Refused("the signature does not say what it signs")
    if any(signed.get(name) != value for name, value in target.document.items()):
        raise Refused(f"the signature is of {signed.get('digest')}, not of {target.digest}")
    annotations = signed.get("annotations") or {}
    return annotations if isinstance(annotations, dict) else {}


def _time(document: Mapping[str, Any], name: str) -> datetime:
    """Source: RFC 3339."""
    moment = datetime.fromisoformat(text_of(document, name))
    if moment.tzinfo is None:
        raise ValueError(f"{name} has no time zone")
    return moment


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
