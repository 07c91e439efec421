"""Certificates that their issuer has revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from aml_images_dagster.errors import BadInput
from aml_images_dagster.trust.certificates import Refused, check_revocation, read_revocation_lists
from aml_images_dagster.trust.notary import Trust, sign, verify
from aml_images_dagster.trust.referrers import Descriptor
from tests.trust.authority import LEAF, Authority, subject

IMAGE = Descriptor("application/vnd.oci.image.manifest.v1+json", f"sha256:{'a' * 64}", 5)
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
AUTHORITY = Authority()
PLACE = x509.CRLDistributionPoints(
    [x509.DistributionPoint([x509.UniformResourceIdentifier("http://crl.example/list")], None, None, None)]
)
SIGNER, OTHER = (AUTHORITY.signer(extensions=(*LEAF, (PLACE, False))) for _ in range(2))


def of_parts(*, critical: bool = True, **fields) -> tuple[x509.IssuingDistributionPoint, bool]:
    usual = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    if not any(fields.values()):
        usual["full_name"] = [x509.UniformResourceIdentifier("http://crl.example/list")]
    return x509.IssuingDistributionPoint(**(usual | fields)), critical


def check(*lists, signer=SIGNER, proven=None):
    check_revocation(signer.chain, lists, NOW, proven)


def test_a_certificate_that_is_not_revoked_is_accepted():
    check(AUTHORITY.revoke(OTHER))
    check(AUTHORITY.revoke())


def test_a_signature_by_a_revoked_certificate_is_refused():
    envelope = sign(IMAGE, SIGNER, now=NOW).content
    trust = Trust((AUTHORITY.root,))
    assert verify(envelope, IMAGE, trust, NOW).by.startswith("CN=image factory")
    with_list = Trust((AUTHORITY.root,), revocation_lists=(AUTHORITY.revoke(SIGNER),))
    with pytest.raises(Refused, match=r"was revoked on \d{4}-\d\d-\d\d"):
        verify(envelope, IMAGE, with_list, NOW)


def test_the_list_of_the_issuer_must_be_there_if_the_certificate_names_one():
    stranger = Authority("another root")
    with pytest.raises(Refused, match="list is missing"):
        check(stranger.revoke())
    check(stranger.revoke(), signer=AUTHORITY.signer())


def test_a_list_by_somebody_else_in_the_name_of_the_issuer_is_refused():
    with pytest.raises(Refused, match="is not by"):
        check(Authority().revoke())


@pytest.mark.parametrize(
    ("last", "following"), [(NOW - 2 * DAY, NOW - DAY), (NOW + DAY, NOW + 2 * DAY)], ids=["old", "of-the-future"]
)
def test_a_list_that_is_not_current_is_refused(last, following):
    with pytest.raises(Refused, match="get the current one"):
        check(AUTHORITY.revoke(last=last, following=following))


@pytest.mark.parametrize("reason", [x509.ReasonFlags.certificate_hold, x509.ReasonFlags.key_compromise])
def test_also_one_on_hold_is_refused_and_one_off_the_list_is_not(reason):
    with pytest.raises(Refused, match="was revoked"):
        check(AUTHORITY.revoke(SIGNER, extensions=(x509.CRLReason(reason),)))
    check(AUTHORITY.revoke(SIGNER, extensions=(x509.CRLReason(x509.ReasonFlags.remove_from_crl),)))


def test_only_a_timestamp_from_before_the_key_was_lost_saves_a_signature():
    lost = x509.InvalidityDate((NOW - DAY).replace(tzinfo=None, microsecond=0))
    revoked = AUTHORITY.revoke(SIGNER, extensions=(lost,))
    check(revoked, proven=NOW - 2 * DAY)
    for proven in (None, NOW):
        with pytest.raises(Refused, match="was revoked"):
            check(revoked, proven=proven)
    with pytest.raises(Refused, match="was revoked"):
        check(AUTHORITY.revoke(SIGNER), proven=NOW - 2 * DAY)


@pytest.mark.parametrize(
    "extension",
    [
        of_parts(indirect_crl=True),
        of_parts(only_some_reasons=frozenset([x509.ReasonFlags.key_compromise])),
        (x509.DeltaCRLIndicator(1), True),
    ],
    ids=["of-other-issuers", "of-some-reasons", "delta"],
)
def test_a_list_that_is_not_whole_is_refused(extension):
    with pytest.raises(Refused, match="not known here"):
        check(AUTHORITY.revoke(of_list=(extension,)))


def test_a_list_of_authorities_alone_says_nothing_of_a_signer():
    with pytest.raises(Refused, match="list is missing"):
        check(AUTHORITY.revoke(of_list=(of_parts(only_contains_ca_certs=True),)))
    check(AUTHORITY.revoke(of_list=(of_parts(only_contains_user_certs=True),)))
    with pytest.raises(Refused, match="was revoked"):
        check(AUTHORITY.revoke(SIGNER, of_list=(of_parts(),)))


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_lists_are_read_from_files(tmp_path, encoding):
    path = tmp_path / "list"
    path.write_bytes(AUTHORITY.revoke(SIGNER).public_bytes(encoding))
    (found,) = read_revocation_lists([path])
    assert found.issuer == subject("test root")
    with pytest.raises(Refused, match="was revoked"):
        check(found)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x00"])
def test_a_file_that_is_no_list_is_named(tmp_path, content):
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_revocation_lists([path])
    assert caught.value.where == str(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        read_revocation_lists([tmp_path / "absent"])
