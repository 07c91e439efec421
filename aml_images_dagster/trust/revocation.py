"""Certificates that their issuers have revoked, as lists in files say (CRL).

Source: https://github.com/notaryproject/specifications/blob/v1.1.0/specs/trust-store-trust-policy.md, "Certificate
Revocation Evaluation"; RFC 5280, 5 and 6.3. Lists are not fetched, and neither delta lists nor OCSP are read.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509

from aml_images_dagster.errors import BadInput
from aml_images_dagster.trust.certificates import Refused, name_of
from aml_images_dagster.trust.keys import PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

RevocationList = x509.CertificateRevocationList


def read_revocation_lists(paths: Iterable[Path]) -> list[RevocationList]:
    """The lists of files, one in each, in PEM or DER.

    Raises:
        BadInput: A file cannot be read, or is no list.
    """
    found = []
    for path in paths:
        try:
            content = path.read_bytes()
            is_pem = content.lstrip().startswith(b"-----BEGIN")
            found.append(x509.load_pem_x509_crl(content) if is_pem else x509.load_der_x509_crl(content))
        except OSError as error:
            raise BadInput(
                f"the revocation list cannot be read: {error.strerror}", where=str(path), hint="Check the path."
            ) from None
        except ValueError:
            raise BadInput(
                "this is no revocation list", where=str(path), hint="It is a CRL as PEM or DER, as the issuer gives it."
            ) from None
    return found


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
