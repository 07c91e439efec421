"""Signatures with a timestamp of a service that is openssl's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from aml_images_dagster.errors import Unreachable
from aml_images_dagster.trust.certificates import Refused
from aml_images_dagster.trust.encoding import from_base64, json_object, to_base64, to_json
from aml_images_dagster.trust.notary import Trust, sign, verify
from aml_images_dagster.trust.referrers import Descriptor
from aml_images_dagster.trust.timestamps import new_timestamp
from tests.trust.timestamp_service import TimestampService

pytestmark = pytest.mark.engine  # openssl is one more program that must be there

IMAGE = Descriptor("application/vnd.oci.image.manifest.v1+json", f"sha256:{'a' * 64}", 5)
HEADER = "io.cncf.notary.timestampSignature"


@pytest.fixture
def service(tmp_path):
    with TimestampService(tmp_path) as service:
        yield service


@pytest.fixture
def envelope(service, authority) -> bytes:
    return sign(
        IMAGE, authority.signer(), now=datetime.now(UTC), timestamp=partial(new_timestamp, url=service.url)
    ).content


def with_token(envelope: bytes, token: bytes) -> bytes:
    document = json_object(envelope)
    return to_json(document | {"header": document["header"] | {HEADER: to_base64(token)}})


def test_a_signature_with_a_timestamp_outlives_its_certificate(envelope, service, authority):
    later = datetime.now(UTC) + timedelta(days=365)
    trust = Trust((authority.root,), timestamp_roots=(service.root,))
    signed = verify(envelope, IMAGE, trust, later)
    assert signed.is_timestamped
    assert abs(signed.signed - datetime.now(UTC)) < timedelta(minutes=5)
    with pytest.raises(Refused, match="is valid from"):
        verify(envelope, IMAGE, Trust((authority.root,)), later)
    assert not verify(envelope, IMAGE, Trust((authority.root,)), datetime.now(UTC)).is_timestamped


def test_a_timestamp_of_a_service_that_is_not_trusted(envelope, authority):
    trust = Trust((authority.root,), timestamp_roots=(authority.root,))
    with pytest.raises(Refused, match="timestamp of the signature is not valid"):
        verify(envelope, IMAGE, trust, datetime.now(UTC))


def test_a_timestamp_of_another_signature(envelope, service, authority):
    token = new_timestamp(b"another signature", service.url)
    trust = Trust((authority.root,), timestamp_roots=(service.root,))
    with pytest.raises(Refused, match="timestamp of the signature is not valid"):
        verify(with_token(envelope, token), IMAGE, trust, datetime.now(UTC))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.99])
def test_a_timestamp_that_was_altered(envelope, service, authority, place):
    token = bytearray(from_base64(json_object(envelope)["header"][HEADER]))
    token[int(len(token) * place)] ^= 1
    trust = Trust((authority.root,), timestamp_roots=(service.root,))
    with pytest.raises(Refused, match="timestamp of the signature is not valid"):
        verify(with_token(envelope, bytes(token)), IMAGE, trust, datetime.now(UTC))


def test_a_timestamp_of_the_future(envelope, service, authority):
    trust = Trust((authority.root,), timestamp_roots=(service.root,))
    with pytest.raises(Refused, match="of the future"):
        verify(envelope, IMAGE, trust, datetime.now(UTC) - timedelta(days=1))
    verify(envelope, IMAGE, trust, datetime.now(UTC) - timedelta(seconds=30))  # no two clocks agree


def test_a_service_that_says_something_else(service):
    service.answer = b"<html>"
    with pytest.raises(Unreachable, match="no timestamp"):
        new_timestamp(b"signature", service.url)


def test_a_service_that_answers_an_older_question(service):
    """Whoever sits between could otherwise give an old timestamp for a new one."""
    query = service.reply
    first = []
    service.reply = lambda asked: first[0] if first else first.append(query(asked)) or first[0]
    new_timestamp(b"signature", service.url)
    with pytest.raises(Unreachable, match="gives no timestamp"):
        new_timestamp(b"signature", service.url)


def test_a_service_that_does_not_answer():
    with pytest.raises(Unreachable, match="no timestamp"):
        new_timestamp(b"signature", "http://127.0.0.1:1/")
