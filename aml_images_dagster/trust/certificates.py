"""Certificates of those who sign: chains, what they must be like, who is trusted, and which are revoked (CRL).

Source: https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md, "Certificate
Requirements", and trust-store-trust-policy.md, "Trusted Identities Constraints" and "Certificate Revocation
Evaluation"; RFC 5280, 5 and 6.3. Revocation lists are not fetched, and neither delta lists nor OCSP are read.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from aml_images_dagster.errors import BadInput, FactoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
"""Keys whose signatures are checked."""
RevocationList = x509.CertificateRevocationList
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_Read = TypeVar("_Read")

_NO_CERTIFICATES = ("this is no PEM file of certificates", "It has -----BEGIN CERTIFICATE-----.")
_NO_REVOCATION_LIST = ("this is no revocation list", "It is a CRL as PEM or DER, as the issuer gives it.")
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
    held = (_read(path, "the certificates", x509.load_pem_x509_certificates, _NO_CERTIFICATES) for path in paths)
    return [certificate for certificates in held for certificate in certificates]


def _read(path: Path, what: str, load: Callable[[bytes], _Read], refusal: tuple[str, str]) -> _Read:
    """What is in a file.

    Args:
        path: The file.
        what: What it has, for messages.
        load: Raises ValueError where the content is something else.
        refusal: What the content is not, and how it is written: what and hint of the error then.

    Raises:
        BadInput: The file cannot be read, or has something else.
    """
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{what} cannot be read: {error.strerror}", where=str(path), hint="Check the path.") from None
    except (ValueError, x509.InvalidVersion):
        raise BadInput(refusal[0], where=str(path), hint=refusal[1]) from None


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


def read_revocation_lists(paths: Iterable[Path]) -> list[RevocationList]:
    """The lists of files, one in each, in PEM or DER.

    Raises:
        BadInput: A file cannot be read, or is no list.
    """
    return [_read(path, "the revocation list", _load_revocation_list, _NO_REVOCATION_LIST) for path in paths]


def _load_revocation_list(content: bytes) -> RevocationList:
    is_pem = content.lstrip().startswith(b"-----BEGIN")
    return x509.load_pem_x509_crl(content) if is_pem else x509.load_der_x509_crl(content)


def check_revocation(
    chain: Sequence[x509.Certificate], lists: Sequence[RevocationList], now: datetime, proven: datetime | None
) -> None:
    """Refuse certificates one of which its issuer has revoked, or may have.

    A certificate that names no place of a list is not revocable; any other needs the list of its issuer.

    Args:
        chain: Checked certificates, each issued by the next, up to the root.
        lists: Where there are none, nothing is looked up.
        now: The time.
        proven: When a timestamp service saw the signature; None: nobody says.

    Raises:
        Refused: One is revoked, or the list of its issuer is missing, not valid or out of date.
    """
    for certificate, issuer in pairwise(chain) if lists else ():
        ours = [each for each in lists if each.issuer == issuer.subject and _is_about(each, certificate)]
        if not ours and _names_a_list(certificate):
            raise Refused(f"whether {name_of(certificate)} is revoked is not known: its issuer's list is missing")
        for each in ours:
            _check_list(each, issuer, now)
            _check_entry(each, certificate, proven)


def _check_list(revoked: RevocationList, issuer: x509.Certificate, now: datetime) -> None:
    who = name_of(issuer)
    key = issuer.public_key()
    if not isinstance(key, PublicKey) or not revoked.is_signature_valid(key):
        raise Refused(f"the revocation list of {who} is not by {who}")
    unknown = [each.oid.dotted_string for each in revoked.extensions if each.critical and not _is_known(each.value)]
    if unknown:
        raise Refused(f"the revocation list of {who} has what is not known here: {', '.join(unknown)}")
    until = revoked.next_update_utc
    if until is None or not revoked.last_update_utc <= now <= until:
        valid = f"{revoked.last_update_utc:%Y-%m-%d %H:%M} to {f'{until:%Y-%m-%d %H:%M}' if until else 'no day'}"
        raise Refused(f"the revocation list of {who} is valid from {valid}: get the current one")


def _check_entry(revoked: RevocationList, certificate: x509.Certificate, proven: datetime | None) -> None:
    entry = revoked.get_revoked_certificate_by_serial_number(certificate.serial_number)
    if entry is None:
        return
    said = {type(each.value): each.value for each in entry.extensions}
    reason, invalid = said.get(x509.CRLReason), said.get(x509.InvalidityDate)
    if isinstance(reason, x509.CRLReason) and reason.reason is x509.ReasonFlags.remove_from_crl:
        return
    since = invalid.invalidity_date_utc if isinstance(invalid, x509.InvalidityDate) else None
    if since is None or proven is None or proven >= since:
        raise Refused(f"the certificate of {name_of(certificate)} was revoked on {entry.revocation_date_utc:%Y-%m-%d}")


def _is_about(revoked: RevocationList, certificate: x509.Certificate) -> bool:
    """Whether a list is about such certificates: it may be about those of authorities alone, or of all others."""
    parts = [each.value for each in revoked.extensions if isinstance(each.value, x509.IssuingDistributionPoint)]
    constraints = [each.value for each in certificate.extensions if isinstance(each.value, x509.BasicConstraints)]
    is_authority = any(each.ca for each in constraints)
    return not any(part.only_contains_user_certs if is_authority else part.only_contains_ca_certs for part in parts)


def _is_known(extension: x509.ExtensionType) -> bool:
    """Whether a critical extension of a list is observed here: lists of other issuers and of some reasons are not."""
    return isinstance(extension, x509.IssuingDistributionPoint) and not (
        extension.indirect_crl or extension.only_some_reasons or extension.only_contains_attribute_certs
    )


def _names_a_list(certificate: x509.Certificate) -> bool:
    return any(isinstance(each.value, x509.CRLDistributionPoints) for each in certificate.extensions)
