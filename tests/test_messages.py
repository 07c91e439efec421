"""Why a connection failed, in one sentence; where the real errors are raised is tested with their parts."""

from __future__ import annotations

import pytest
import requests

from aml_images_dagster.messages import plain_reason


def test_a_real_refusal() -> None:
    with pytest.raises(requests.ConnectionError) as failed:
        requests.get("http://127.0.0.1:9/", timeout=5)
    assert plain_reason(failed.value) == "Connection refused"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Max retries exceeded (Caused by SSLError(SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number "
            "(_ssl.c:1006)')))",
            "it speaks plain HTTP where HTTPS is needed",
        ),
        ("('Connection aborted.', PermissionError(13, 'Permission denied'))", "Permission denied"),
        ("HTTPSConnectionPool(host='x', port=443): Read timed out. (read timeout=1)", "no answer in time"),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)",
            "self-signed certificate",
        ),
        ("something else", "something else"),
    ],
)
def test_the_reason_without_its_wrapping(text: str, reason: str) -> None:
    assert plain_reason(text) == reason
