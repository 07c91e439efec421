"""Sign-in: Caddy with the configuration in deploy/, before real webservers of Dagster."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import requests

from aml_images_dagster.instance.sign_in import SIGNED_IN_TAG, USER_HEADER
from tests.emulators.json_api import JsonApi, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.services]

CADDYFILE = Path(__file__).parents[2] / "deploy" / "caddy" / "Caddyfile"
SECONDS = 180
INSTANCE = """\
telemetry: {enabled: false}
run_coordinator: {module: aml_images_dagster.instance.sign_in, class: SignedInRunCoordinator}
"""
CODE = """\
import dagster as dg
@dg.asset
def something(): ...
defs = dg.Definitions(assets=[something], jobs=[dg.define_asset_job("make", selection=[something])])
"""
LAUNCH = """mutation($tags: [ExecutionTag!]) { launchRun(executionParams: {mode: "default", runConfigData: {},
  executionMetadata: {tags: $tags},
  selector: {repositoryName: "__repository__", repositoryLocationName: "images", jobName: "make"}})
  { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = 'mutation { terminateRun(runId: "none") { __typename } }'
VERSION = "{ version }"
JSON = {"Content-Type": "application/json"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class SignInService(JsonApi):
    """What oauth2-proxy answers to Caddy: its cookie is the user. Nothing else of it is here.

    Source: https://oauth2-proxy.github.io/oauth2-proxy/features/endpoints
    """

    def answer(self, request: Request) -> tuple[Any, ...]:
        """Who has signed in; `nameless` has an account without an e-mail address."""
        user = request.headers.get("Cookie", "").removeprefix("_oauth2_proxy=")
        if request.path == "/oauth2/auth":
            return (202, None, {} if user == "nameless" else {"X-Auth-Request-Email": user}) if user else (401, None)
        return 302, None, {"Location": "https://login.example/"}


@dataclass(frozen=True)
class Site:
    """The proxy, and the instance behind it; on another port the same with accounts of an organization."""

    port: int
    accounts_port: int
    home: Path
    passwords: dict[str, str]

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, user: str | None, **options: Any) -> requests.Response:
        auth = (user, self.passwords[user]) if user else None
        return requests.request(method, f"{self.origin}{path}", auth=auth, timeout=60, allow_redirects=False, **options)

    def ask_with_account(self, method: str, path: str, user: str = "", **options: Any) -> requests.Response:
        headers = {**({"Cookie": f"_oauth2_proxy={user}"} if user else {}), **options.pop("headers", {})}
        url = f"http://127.0.0.1:{self.accounts_port}{path}"
        return requests.request(method, url, headers=headers, timeout=60, allow_redirects=False, **options)

    def graphql(self, user: str, query: str, headers: dict[str, str] | None = None, **variables: Any) -> Any:
        body = {"query": query, "variables": variables}
        answer = self.ask("POST", "/graphql", user, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def tags(self, run_id: str) -> dict[str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", str(self.home))
            with dg.DagsterInstance.from_config(str(self.home)) as instance:
                run = instance.get_run_by_id(run_id)
                assert run is not None
                return dict(run.tags)

    def handshake(self, user: str, origin: str) -> int:
        """The status of a websocket's handshake; source: https://www.rfc-editor.org/rfc/rfc6455."""
        secret = base64.b64encode(f"{user}:{self.passwords[user]}".encode()).decode()
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = [
            "GET /graphql HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: graphql-ws",
            f"Origin: {origin}",
            f"Authorization: Basic {secret}",
        ]
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            return int(connection.recv(4096).split()[1])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if shutil.which("caddy") is None:
        pytest.fail("this test needs Debian's caddy: scripts/test installs it")
    folder = tmp_path_factory.mktemp("site")
    home = folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(INSTANCE)
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # two webservers that make the database at once get into each other's way
        patch.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            assert instance.get_runs_count() == 0
    (folder / "served.py").write_text(CODE)
    code = {"relative_path": "served.py", "location_name": "images"}
    (folder / "workspace.yaml").write_text(json.dumps({"load_from": [{"python_file": code}]}))
    passwords = {name: secrets.token_hex(8) for name in ("ada", "eve")}
    hashes = {
        name: subprocess.run(
            ["caddy", "hash-password", "--plaintext", word], check=True, capture_output=True, text=True
        )
        for name, word in passwords.items()
    }
    (folder / "users").write_text("".join(f"{name} {done.stdout.strip()}\n" for name, done in hashes.items()))
    proxy, accounts, writing, reading = (free_port() for _ in range(4))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_"))}
    environment = clean | {
        "HOME": str(folder),
        "DAGSTER_HOME": str(home),
        "AML_IMAGES_SITE": f"http://127.0.0.1:{proxy}",
        "AML_IMAGES_ORIGIN": f"http://127.0.0.1:{proxy}",
        "AML_IMAGES_USERS": str(folder / "users"),
        "AML_IMAGES_WRITERS": "ada",
        "AML_IMAGES_WEBSERVER": f"127.0.0.1:{writing}",
        "AML_IMAGES_WEBSERVER_READ_ONLY": f"127.0.0.1:{reading}",
    }
    webserver = [sys.executable, "-m", "dagster_webserver", "-w", str(folder / "workspace.yaml"), "-h", "127.0.0.1"]
    caddy = ["caddy", "run", "--config", str(CADDYFILE), "--adapter", "caddyfile"]
    with SignInService() as sign_in, (folder / "log").open("wb") as log:
        of_accounts = {
            "AML_IMAGES_SIGN_IN": "oauth2_proxy",
            "AML_IMAGES_OAUTH2_PROXY": sign_in.url.removeprefix("http://"),
            "AML_IMAGES_SITE": f"http://127.0.0.1:{accounts}",
            "AML_IMAGES_ORIGIN": f"http://127.0.0.1:{accounts}",
        }
        started: list[tuple[list[str], dict[str, str]]] = [
            (caddy, {}),
            (caddy, of_accounts),
            ([*webserver, "-p", str(writing)], {}),
            ([*webserver, "-p", str(reading), "--read-only"], {}),
        ]
        processes = [
            subprocess.Popen(
                command, env=environment | more, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )
            for command, more in started
        ]
        try:
            found = Site(proxy, accounts, home, passwords)
            for user in passwords:
                wait_for_site(found, user, processes, folder / "log")
            yield found
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(60)


def wait_for_site(site: Site, user: str, processes: list[subprocess.Popen[bytes]], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if site.ask("POST", "/graphql", user, json={"query": VERSION}).status_code == 200:
                return
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline, log.read_text()[-5000:]
        assert all(process.poll() is None for process in processes), log.read_text()[-5000:]
        time.sleep(0.5)


@pytest.mark.parametrize("path", ["/", "/graphql", "/server_info", "/report_asset_materialization/x"])
def test_nothing_is_seen_without_a_password(site: Site, path: str) -> None:
    assert site.ask("GET", path, None).status_code == 401
    assert site.ask("POST", path, None, json={"query": VERSION}).status_code == 401


def test_a_run_has_the_user_who_has_started_it_whatever_the_request_says(site: Site) -> None:
    forged = {USER_HEADER: "eve"}
    tags = [{"key": SIGNED_IN_TAG, "value": "eve"}]
    launched = site.graphql("ada", LAUNCH, forged, tags=tags)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    assert site.tags(launched["run"]["runId"])[SIGNED_IN_TAG] == "ada"


def test_all_others_only_read(site: Site) -> None:
    assert site.graphql("eve", VERSION)["version"]
    assert site.graphql("eve", LAUNCH)["launchRun"]["__typename"] == "UnauthorizedError"
    assert site.ask("POST", "/report_asset_materialization/x", "eve", json={}).status_code == 403


def test_what_a_page_of_another_site_can_send_is_refused(site: Site) -> None:
    foreign = {"Origin": "http://evil.example"}
    body = {"query": TERMINATE}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = [
        site.ask("GET", "/graphql", "ada", params=body),
        site.ask("GET", "/graphql/", "ada", params=body),
        site.ask("POST", "/graphql", "ada", params=body, headers=form | foreign, data="a=1"),
        site.ask("POST", "/graphql", "ada", params=body, headers=form, data="a=1"),
        site.ask("POST", "/graphql", "ada", params=body, headers={"Content-Type": "text/plain"}, data=json.dumps(body)),
        site.ask("POST", "/graphql", "ada", params=body),
        site.ask("POST", "/graphql", "ada", json=body, headers=foreign),
        site.ask("POST", "/graphql", "ada", json=body, headers={"Origin": "null"}),
        site.ask("POST", "/graphql", "ada", json=body, headers={"Sec-Fetch-Site": "cross-site"}),
        site.ask("POST", "/report_asset_materialization/x", "ada", headers=foreign, json={}),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert site.handshake("ada", "http://evil.example") == 403


def test_the_pages_of_the_site_itself_work(site: Site) -> None:
    assert site.ask("GET", "/", "ada", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
    own = {"Origin": site.origin, "Sec-Fetch-Site": "same-origin"}
    assert site.graphql("ada", TERMINATE, own)["terminateRun"]["__typename"] == "RunNotFoundError"
    assert site.handshake("ada", site.origin) == 101
    assert site.handshake("eve", site.origin) == 101


def test_who_has_no_account_is_sent_to_the_sign_in(site: Site) -> None:
    answer = site.ask_with_account("GET", "/runs?q=1")
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/oauth2/sign_in?rd=http://127.0.0.1:{site.accounts_port}/runs?q=1"
    assert site.ask_with_account("GET", "/oauth2/sign_in").headers["Location"] == "https://login.example/"
    assert site.ask_with_account("POST", "/graphql", json={"query": VERSION}).status_code == 302


def test_an_account_is_who_has_started_a_run_whatever_the_request_says(site: Site) -> None:
    body = {"query": LAUNCH, "variables": {"tags": []}}
    answer = site.ask_with_account("POST", "/graphql", "ada", headers={USER_HEADER: "eve"}, json=body).json()
    assert site.tags(answer["data"]["launchRun"]["run"]["runId"])[SIGNED_IN_TAG] == "ada"
    forged = site.ask_with_account("POST", "/graphql", "eve", headers={USER_HEADER: "ada"}, json=body).json()
    assert forged["data"]["launchRun"]["__typename"] == "UnauthorizedError"
    for headers in ({}, {USER_HEADER: "ada"}):
        assert site.ask_with_account("POST", "/graphql", "nameless", headers=headers, json=body).status_code == 403


def test_accounts_are_protected_from_pages_of_other_sites(site: Site) -> None:
    body = {"query": TERMINATE}
    refused = [
        site.ask_with_account("GET", "/graphql", "ada", params=body),
        site.ask_with_account("POST", "/graphql", "ada", params=body),
        site.ask_with_account("POST", "/graphql", "ada", json=body, headers={"Origin": "http://evil.example"}),
        site.ask_with_account("POST", "/report_asset_materialization/x", "eve", json={}),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused)


def test_the_configuration_of_oauth2_proxy_gives_what_caddy_asks_for() -> None:
    text = CADDYFILE.with_name("oauth2-proxy.cfg").read_text("utf-8")
    settings = tomllib.loads(text)
    assert settings["set_xauthrequest"] is True
    assert settings["redirect_url"].endswith("/oauth2/callback")
    assert f"{{$AML_IMAGES_OAUTH2_PROXY:{settings['http_address']}}}" in CADDYFILE.read_text("utf-8")
    assert not [name for name in settings if "secret" in name]
