"""What signing and verifying need, as checks: the key and its certificate, the timestamp service, whom is trusted."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from cryptography.x509.oid import NameOID

from aml_images_dagster.checks import Check
from aml_images_dagster.errors import BadInput
from aml_images_dagster.text import counted
from aml_images_dagster.trust.certificates import Refused, name_of
from aml_images_dagster.trust.keys import laptop_key_file
from aml_images_dagster.trust.notary import Trust, sign, verify
from aml_images_dagster.trust.referrers import Descriptor
from aml_images_dagster.trust.signing import signer_of, signs_with_test_key, trust_of
from aml_images_dagster.trust.timestamps import check_timestamp, new_timestamp

if TYPE_CHECKING:
    from cryptography import x509

    from aml_images_dagster.settings import Settings

_NOTHING = Descriptor("application/vnd.oci.empty.v1+json", f"sha256:{'0' * 64}", 0)
"""What is signed to see whether the key signs; no image has this digest."""
_SOON_DAYS = 30
_FOR_NOTATION = {NameOID.COUNTRY_NAME: "C", NameOID.STATE_OR_PROVINCE_NAME: "ST", NameOID.ORGANIZATION_NAME: "O"}
_TEST_KEY = (
    "this machine's test key, which proves nothing: whoever builds here can sign anything with it. "
    "Set trust.signing_key for images that others use"
)


def trust_checks(settings: Settings) -> tuple[Check, ...]:
    """Whether the key signs, as what the settings name; and whether what it signs is accepted here."""
    checks = []
    if settings.trust.attach:
        checks.append(Check("signing key", partial(_signing_key, settings), only_for="build"))
        if settings.trust.timestamp_url:
            checks.append(Check("timestamp service", partial(_timestamp_service, settings), only_for="build"))
    if settings.releases_verified or settings.trust.roots:
        checks.append(Check("trust policy", partial(_trust_policy, settings), only_for="release"))
    return tuple(checks)


def _signing_key(settings: Settings) -> str:
    if signs_with_test_key(settings):
        path = laptop_key_file(settings.home)
        if not path.exists():  # a check changes nothing
            return f"none yet; the first build makes {_TEST_KEY}"
    now, signer = datetime.now(UTC), signer_of(settings)
    envelope = sign(_NOTHING, signer, now=now).content
    try:
        verify(envelope, _NOTHING, Trust((signer.chain[-1],)), now)
    except Refused as refused:
        raise BadInput(
            f"what the key signs is not valid: {refused.what}",
            where="trust.signing_key",
            hint="Is this certificate that of the key?",
        ) from None
    if signer.is_test:
        return f"{_TEST_KEY} ({laptop_key_file(settings.home)})"
    leaf = signer.chain[0]
    return "; ".join(filter(None, (name_of(leaf), _expiry(leaf, now), _lacks_for_notation(leaf))))


def _expiry(certificate: x509.Certificate, now: datetime) -> str:
    days = (certificate.not_valid_after_utc - now).days
    renew = ": renew it, nothing can be signed after that" if days < _SOON_DAYS else ""
    return f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}, {counted(days, 'day')}{renew}"


def _lacks_for_notation(leaf: x509.Certificate) -> str:
    has = {attribute.oid for attribute in leaf.subject}
    lacking = [name for oid, name in _FOR_NOTATION.items() if oid not in has]
    return f"notation accepts no subject without {', '.join(lacking)}" if lacking else ""


def _timestamp_service(settings: Settings) -> str:
    url = settings.trust.timestamp_url
    content = b"aml-images doctor"
    token = new_timestamp(content, url)
    roots = _trusted_services(settings)
    if not roots:
        return f"{url}; trust.timestamp_roots is not set: `aml-images verify` and releases ignore timestamps"
    try:
        check_timestamp(token, content, roots, datetime.now(UTC))
    except Refused as refused:
        raise BadInput(refused.what, where=url, hint="Is its root certificate in trust.timestamp_roots?") from None
    return url


def _trusted_services(settings: Settings) -> tuple[x509.Certificate, ...]:
    return trust_of(settings).timestamp_roots if settings.trust.timestamp_roots else ()


def _trust_policy(settings: Settings) -> str:
    """Who is trusted; refused if that does not hold for what this factory signs itself."""
    if signs_with_test_key(settings) and not settings.trust.roots and not laptop_key_file(settings.home).exists():
        return "that of this machine's test key, once it has one"
    trust, now = trust_of(settings), datetime.now(UTC)
    for root in trust.roots:
        if root.not_valid_after_utc < now:
            raise BadInput(
                f"the root certificate {name_of(root)} was valid until {root.not_valid_after_utc:%Y-%m-%d}",
                where="trust.roots",
                hint="Name the current one beside it, or instead of it.",
            )
    if settings.trust.attach:
        try:
            verify(sign(_NOTHING, signer_of(settings), now=now).content, _NOTHING, trust, now)
        except Refused as refused:
            raise BadInput(
                f"what this factory signs is not accepted: {refused.what}",
                where="trust.roots, trust.identities",
                hint="Name the root of the signing certificate, and its subject, or sign with another key.",
            ) from None
    who = "; ".join(settings.trust.identities) or "everybody whom a root names"
    required = ", ".join(settings.trust.required) or "nothing"
    return f"{counted(len(trust.roots), 'root')}, who may sign: {who}; required: {required}"
