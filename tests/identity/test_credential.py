"""Signing in with the real azure-identity, at the endpoint of a managed identity."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.identity.credential import Credential, credential_for
from aml_images_dagster.settings.azure import AzureSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emulators.azure.cloud import EmulatedCloud

SCOPE = "https://management.azure.com/.default"
OTHER = "https://containerregistry.azure.net/.default"


def test_a_token_is_kept_for_each_scope(cloud: EmulatedCloud) -> None:
    credential = Credential()
    tokens = {credential.get_token(scope).token for scope in (SCOPE, OTHER, SCOPE, OTHER)}
    assert tokens == set(cloud.identity.issued)
    assert {issued.resource for issued in cloud.identity.issued.values()} == {
        "https://management.azure.com",
        "https://containerregistry.azure.net",
    }


def test_a_token_is_renewed_before_it_ends(cloud: EmulatedCloud) -> None:
    cloud.identity.life_seconds = 299
    credential = Credential()
    assert credential.get_token(SCOPE).token != credential.get_token(SCOPE).token


def test_one_credential_for_the_whole_process_and_all_threads(cloud: EmulatedCloud) -> None:
    tokens: list[str] = []

    def ask() -> None:
        tokens.append(credential_for(AzureSettings()).get_token(SCOPE).token)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 8
    assert set(tokens) == set(cloud.identity.issued)
    assert len(cloud.identity.issued) == 1


def test_the_identity_of_the_settings_is_asked_for(cloud: EmulatedCloud) -> None:
    credential_for(AzureSettings(identity_client_id="the-one")).get_token(SCOPE)
    assert [issued.client_id for issued in cloud.identity.issued.values()] == ["the-one"]


def test_nothing_says_how(cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_TOKEN_CREDENTIALS")
    with pytest.raises(BadInput, match="it is not known how to sign in to Azure") as refused:
        Credential().get_token(SCOPE)
    assert "AzureCliCredential" in refused.value.hint


def test_a_name_that_azure_does_not_know(cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "Nonsense")
    with pytest.raises(BadInput, match="nonsense"):
        Credential().get_token(SCOPE)


def test_a_machine_without_an_identity(cloud: EmulatedCloud) -> None:
    cloud.identity.available = False
    with pytest.raises(Unreachable, match="not signed in to Azure: ") as refused:
        Credential().get_token(SCOPE)
    assert "\n" not in refused.value.what
    assert "az login" in refused.value.hint


def test_a_person_who_is_not_signed_in(cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unreachable, match=r"not signed in to Azure: .*Azure CLI not found"):
        Credential().get_token(SCOPE)


def test_tokens_are_never_logged(cloud: EmulatedCloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    credential = Credential()
    token = credential.get_token(SCOPE).token
    assert caplog.records  # something is logged
    assert token not in caplog.text
    assert cloud.identity.secret not in caplog.text
    assert token not in repr(credential) + repr(vars(credential).keys())


def test_a_person_who_is_not_signed_in_reads_one_message(tmp_path: Path) -> None:
    """azure-identity warns of the same in four lines, each time that it is asked."""
    ask = (
        "from aml_images_dagster.errors import FactoryError\n"
        "from aml_images_dagster.identity.credential import Credential\n"
        "for _ in range(2):\n"
        "    try:\n"
        f"        Credential().get_token({SCOPE!r})\n"
        "    except FactoryError as error:\n"
        "        print(error.what)\n"
    )
    nothing_installed = {"AZURE_TOKEN_CREDENTIALS": "AzureCliCredential", "PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", ask], env=nothing_installed, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("not signed in to Azure") == 2
    assert done.stderr == ""
