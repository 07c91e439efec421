"""Nothing that opens a door is seen: tokens and signatures, with all logs at DEBUG, also when things fail."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import FactoryError
from aml_images_dagster.identity.faults import redacted

if TYPE_CHECKING:
    from tests.emulators.azure.blob_storage import BlobStorage
    from tests.emulators.azure.clockwork import Clockwork
    from tests.emulators.azure.cloud import EmulatedCloud
    from tests.emulators.azure.machine_learning import MachineLearning
    from tests.testing.azure_ml.conftest import MakeJob, MakeRunner


def test_no_token_and_no_signature_is_seen(
    make_runner: MakeRunner,
    make_job: MakeJob,
    cloud: EmulatedCloud,
    workspace: MachineLearning,
    clockwork: Clockwork,
    blob_account: BlobStorage,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    clockwork.fails = {"bad"}
    seen: list[str] = []
    for name in ("good", "bad"):
        seen.append(repr(make_runner().run(make_job(name=name), seen.append)))
    blob_account.fail(403, method="PUT", path="sig=", times=None)
    with pytest.raises(FactoryError) as refused:
        make_runner().run(make_job(name="unlucky", files={"a.py": "another"}), seen.append)
    seen.append("".join(traceback.format_exception(refused.value)))
    out = capfd.readouterr()
    text = "\n".join([*seen, caplog.text, out.out, out.err])
    assert "urllib3.connectionpool" in caplog.text
    assert "sig=REDACTED" in text
    secrets = [*cloud.identity.issued, *blob_account.signatures.values(), cloud.identity.secret]
    assert len(secrets) >= 5
    for secret in secrets:
        for form in (secret, secret.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")):
            assert form not in text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://a/b?sv=1&sig=abc%2B%3D&se=2", "https://a/b?sv=1&sig=REDACTED&se=2"),
        ("/b?sig=abc HTTP/1.1", "/b?sig=REDACTED HTTP/1.1"),
        ("?SIG=abc' failed", "?SIG=REDACTED' failed"),
        (
            "Max retries exceeded with url: /b?sig=abc%3D (Caused by",
            "Max retries exceeded with url: /b?sig=REDACTED (Caused by",
        ),
        ("design=good", "design=good"),
    ],
)
def test_signatures_in_texts(text: str, clean: str) -> None:
    assert redacted(text) == clean
