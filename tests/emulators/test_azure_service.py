"""The frame of the Azure emulators does what tests rely on: it is strict, and it fails when told to."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest
import requests

from tests.emulators.azure.http_messages import Answer
from tests.emulators.azure.service import Fault

if TYPE_CHECKING:
    from tests.emulators.azure.cloud import EmulatedCloud
    from tests.emulators.azure.service import AzureService

RESOURCE = "https://management.azure.com/"


@pytest.fixture
def arm(cloud: EmulatedCloud) -> AzureService:
    cloud.arm.route("GET", r"/things/(?P<name>[^/]+)", lambda request, name: Answer(document={"name": name}))
    return cloud.arm


def get(arm: AzureService, token: str, path: str = "/things/one") -> requests.Response:
    return requests.get(arm.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=5)


def test_a_known_token_is_let_in(cloud: EmulatedCloud, arm: AzureService) -> None:
    assert get(arm, cloud.identity.issue(RESOURCE), "/Things/a%20b").json() == {"name": "a b"}
    assert [(line.request.path, line.status) for line in arm.exchanges("GET", "/Things")] == [("/Things/a b", 200)]


def test_other_tokens_are_not(cloud: EmulatedCloud, arm: AzureService) -> None:
    over = cloud.identity.issue(RESOURCE)
    cloud.identity.revoke_all()
    for token in ("", "made up", over, cloud.identity.issue("https://another.resource/")):
        assert get(arm, token).status_code == 401
        assert get(arm, token, "/nothing/there").status_code == 401


def test_what_is_not_there_is_not_found(cloud: EmulatedCloud, arm: AzureService) -> None:
    assert get(arm, cloud.identity.issue(RESOURCE), "/nothing").json()["error"]["code"] == "ResourceNotFound"


def test_faults_happen_as_often_as_told(cloud: EmulatedCloud, arm: AzureService) -> None:
    token = cloud.identity.issue(RESOURCE)
    arm.fail(429, retry_after=1, path="/things", times=2)
    answers = [get(arm, token) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "1"


def test_connections_are_reset(cloud: EmulatedCloud, arm: AzureService) -> None:
    arm.faults.append(Fault("reset"))
    with pytest.raises(requests.ConnectionError):
        get(arm, cloud.identity.issue(RESOURCE))
    assert [line.status for line in arm.exchanges()] == [0]


def test_answers_are_slow(cloud: EmulatedCloud, arm: AzureService) -> None:
    arm.faults.append(Fault("slow", seconds=0.2))
    started = time.monotonic()
    assert get(arm, cloud.identity.issue(RESOURCE)).ok
    assert time.monotonic() - started > 0.2


def test_a_client_that_says_nothing_stops_nobody(cloud: EmulatedCloud, arm: AzureService) -> None:
    host, _, port = arm.host.partition(":")
    with socket.create_connection((host, int(port))):
        assert get(arm, cloud.identity.issue(RESOURCE)).ok


def test_the_certificate_is_needed(arm: AzureService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(requests.exceptions.SSLError):
        get(arm, "")


def test_an_ended_service_hangs_up(cloud: EmulatedCloud, arm: AzureService) -> None:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {cloud.identity.issue(RESOURCE)}"
        assert session.get(f"{arm.url}/things/one", timeout=5).ok
        arm.__exit__()
        with pytest.raises(requests.ConnectionError):
            session.get(f"{arm.url}/things/one", timeout=5)
