"""Certificates of those who sign: chains, what they must be like, and who is trusted.

Source: https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md, "Certificate
Requirements", and trust-store-trust-policy.md, "Trusted Identities Constraints".
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from aml_images_dagster.errors import BadInput, FactoryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_LONGEST_CHAIN = 10
_NO_CODE_SIGNING = {
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ExtendedKeyUsageOID.TIME_STAMPING,
    ExtendedKeyUsageOID.OCSP_SIGNING,
}
_KNOWN = {x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid, x509.BasicConstraints.oid}
_NOT_OF_A_LEAF = ("key_cert_sign", "crl_sign", "key_encipherment", "data_encipherment", "key_agreement")


class Refused(FactoryError):  # noqa: N818 - read as "raise Refused"
    """Evidence of an image is missing, is not what it says, or is by somebody who is not trusted. Exit code 1."""


def read_certificates(paths: Iterable[Path]) -> list[x509.Certificate]:
    """The certificates of PEM files.

    Raises:
        BadInput: A file cannot be read, or has none.
    """
    found = []
    for path in paths:
        try:
            found += x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise BadInput(
                f"the certificates cannot be read: {error.strerror}", where=str(path), hint="Check the path."
            ) from None
        except ValueError:
            raise BadInput(
                "this is no PEM file of certificates", where=str(path), hint="It has -----BEGIN CERTIFICATE-----."
            ) from None
    return found


def ordered_chain(key: PublicKeyTypes, certificates: Iterable[x509.Certificate], where: str) -> list[x509.Certificate]:
    """The certificate of a key and those of its issuers, up to the root.

    Args:
        key: The public key.
        certificates: Among these, in any order.
        where: What they belong to, for messages.

    Raises:
        BadInput: One is missing.
    """
    others = list(dict.fromkeys(certificates))
    chain = [each for each in others if _is_of(each, key)][:1]
    if not chain:
        raise BadInput(
            "the certificate of the signing key is missing",
            where=where,
            hint="Name its file: trust.signing_certificates.",
        )
    while not _issued(chain[-1], chain[-1]) and len(chain) < _LONGEST_CHAIN:
        issuer = next((each for each in others if each not in chain and _issued(chain[-1], each)), None)
        if issuer is None:
            raise BadInput(
                f"the certificate of {chain[-1].issuer.rfc4514_string()} is missing",
                where=where,
                hint="A signature names all certificates up to the root: add it to trust.signing_certificates.",
            )
        chain.append(issuer)
    return chain


def check_chain(chain: Sequence[x509.Certificate], moment: datetime) -> None:
    """Check certificates: each issued by the next, the last by itself, all valid at a moment and made for signing.

    Raises:
        Refused: They are not.
    """
    if not 0 < len(chain) <= _LONGEST_CHAIN:
        raise Refused(f"the signature has {len(chain)} certificates")
    for certificate, issuer in (*pairwise(chain), (chain[-1], chain[-1])):
        if not _issued(certificate, issuer):
            raise Refused(f"the certificate of {name_of(certificate)} was not issued by the next one")
    for depth, certificate in enumerate(chain):
        _check_extensions(certificate)
        if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
            raise Refused(
                f"the certificate of {name_of(certificate)} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} "
                f"to {certificate.not_valid_after_utc:%Y-%m-%d}"
            )
        problem = _leaf_problem(certificate) if depth == 0 else _issuer_problem(certificate, depth)
        if problem:
            raise Refused(f"the certificate of {name_of(certificate)} {problem}")


def name_of(certificate: x509.Certificate) -> str:
    """Whose certificate it is."""
    return certificate.subject.rfc4514_string()


def parse_identity(text: str) -> x509.Name:
    """A part of a subject as the trust policy of the Notary Project writes it: `C=US, ST=WA, O=Contoso`.

    Raises:
        BadInput: It is written in another way.
    """
    subject = text.removeprefix("x509.subject:").strip()
    try:
        return x509.Name.from_rfc4514_string(re.sub(r"(?<!\\)\s*,\s*", ",", subject))
    except ValueError:
        raise BadInput(
            f"{text!r} is no subject of a certificate",
            where="trust.identities",
            hint="Write it as C=US, ST=WA, O=Contoso, CN=image factory.",
        ) from None


def has_identity(certificate: x509.Certificate, identity: x509.Name) -> bool:
    """Whether the subject of a certificate has all attributes of an identity."""
    has = {(attribute.oid, attribute.value) for attribute in certificate.subject}
    return has >= {(attribute.oid, attribute.value) for attribute in identity}


def _is_of(certificate: x509.Certificate, key: PublicKeyTypes) -> bool:
    try:
        return certificate.public_key() == key
    except (ValueError, UnsupportedAlgorithm):  # a certificate beside ours may have any key
        return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_extensions(certificate: x509.Certificate) -> None:
    """Refuse what cannot be read, and what must be observed and is not known here. Source: RFC 5280, 4.2."""
    try:
        unknown = [
            each.oid.dotted_string for each in certificate.extensions if each.critical and each.oid not in _KNOWN
        ]
    except (ValueError, x509.DuplicateExtension):
        raise Refused(f"the certificate of {name_of(certificate)} has extensions that cannot be read") from None
    if unknown:
        raise Refused(f"the certificate of {name_of(certificate)} demands what is not known here: {', '.join(unknown)}")


def _leaf_problem(certificate: x509.Certificate) -> str:
    usage = _extension(certificate, x509.KeyUsage)
    constraints = _extension(certificate, x509.BasicConstraints)
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is None or not usage.critical or not usage.value.digital_signature:
        return "is not for signing: its key usage must be critical and have digitalSignature"
    if any(getattr(usage.value, name) for name in _NOT_OF_A_LEAF) or (constraints and constraints.value.ca):
        return "is not for signing alone"
    if extended and _NO_CODE_SIGNING & set(extended.value):
        return "is for another purpose than signing code"
    return _weakness(certificate)


def _issuer_problem(certificate: x509.Certificate, depth: int) -> str:
    usage = _extension(certificate, x509.KeyUsage)
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        return "is not one of an authority"
    if usage is None or not usage.critical or not usage.value.key_cert_sign:
        return "is not for issuing certificates"
    longest = constraints.value.path_length
    return "allows no such long chain" if longest is not None and longest < depth - 1 else _weakness(certificate)


def _weakness(certificate: x509.Certificate) -> str:
    weak = isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5)
    return "is signed with a hash that is broken" if weak else ""


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
