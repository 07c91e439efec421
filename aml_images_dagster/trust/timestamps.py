"""Timestamps of signatures by a service that others trust: a signature with one outlives its certificate.

Source: RFC 3161; Notary Project, signature-specification.md, "Timestamping".
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aml_images_dagster.errors import Unreachable
from aml_images_dagster.http_session import open_session
from aml_images_dagster.messages import plain_reason
from aml_images_dagster.registry.tokens import is_loopback
from aml_images_dagster.trust.certificates import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography import x509

_SKEW = timedelta(minutes=5)
"""How far the clocks of two machines may be apart."""
_TIMEOUT = (10.0, 60.0)
_SHORT = 0x80
_GRANTED = bytes.fromhex("3003020100")
"""PKIStatusInfo of a timestamp that was given. Source: RFC 3161, 2.4.2."""


def new_timestamp(signature: bytes, url: str) -> bytes:
    """Ask a service for the timestamp of a signature.

    Args:
        signature: The signature.
        url: Of the service.

    Returns:
        The token, in DER.

    Raises:
        Unreachable: The service does not answer, refuses, or gives something else.
    """
    import requests
    from rfc3161_client import HashAlgorithm, PKIStatus, TimestampRequestBuilder, decode_timestamp_response

    request = TimestampRequestBuilder().data(signature).hash_algorithm(HashAlgorithm.SHA256).build()
    hint = "Check trust.timestamp_url, and that this machine reaches it."
    try:
        with open_session(loopback=is_loopback(urlsplit(url).hostname or ""), repeat=True) as session:
            answer = session.post(
                url,
                data=request.as_bytes(),
                headers={"Content-Type": "application/timestamp-query"},
                timeout=_TIMEOUT,
            )
            answer.raise_for_status()
        response = decode_timestamp_response(answer.content)
        granted = PKIStatus(response.status) == PKIStatus.GRANTED and response.tst_info.nonce == request.nonce
    except requests.RequestException as error:
        raise Unreachable(f"no timestamp: {plain_reason(error)}", where=url, hint=hint) from None
    except ValueError:
        raise Unreachable("the answer is no timestamp", where=url, hint=hint) from None
    if not granted:
        raise Unreachable("the service gives no timestamp for this signature", where=url, hint=hint)
    return response.time_stamp_token()


def check_timestamp(token: bytes, signature: bytes, roots: Sequence[x509.Certificate], now: datetime) -> datetime:
    """The moment that a timestamp proves.

    Args:
        token: The timestamp, in DER.
        signature: What it must be of.
        roots: Root certificates of trusted services.
        now: The time.

    Raises:
        Refused: It is not valid, of something else, or by a service that is not trusted.
    """
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    try:
        response = decode_timestamp_response(_sequence(_GRANTED + token))
        VerifierBuilder(roots=[*roots]).build().verify_message(response, signature)
    except (VerificationError, ValueError) as error:
        raise Refused(f"the timestamp of the signature is not valid: {error}") from None
    moment = response.tst_info.gen_time
    if moment > now + _SKEW:
        raise Refused("the timestamp of the signature is of the future; the clock of this machine may be wrong")
    return moment


def _sequence(content: bytes) -> bytes:
    """A SEQUENCE in DER. Source: X.690, 8.1.3."""
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return b"\x30" + (bytes([size]) if size < _SHORT else bytes([_SHORT | len(length)]) + length) + content
