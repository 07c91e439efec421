"""A pull request is opened once and kept up to date, through the real clients, at a host of ours."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from aml_images_dagster.code_hosts.address import address_of
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.open_source.leak_check import LeakRules
from aml_images_dagster.open_source.proposal import PullRequest, open_place, open_pull_request, propose
from aml_images_dagster.open_source.public_repository import Author, open_public_repository
from aml_images_dagster.settings import load_settings
from tests.emulators.github import LONGEST_COMMENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aml_images_dagster.code_hosts.address import Kind

LONGEST_DESCRIPTION = 4_000
"""Of Azure DevOps. Source: https://learn.microsoft.com/azure/devops/repos/git/pull-requests."""
TOKEN = SecretStr("a-token-of-tests")
FIRST = PullRequest("aml-images/sync", "main", "Update base/a", "- base/a")
SECOND = PullRequest("aml-images/sync", "main", "Update 2 images", "- base/a\n- base/b")
PLACES: dict[Kind, str] = {
    "github": "https://github.com/contoso/images.git",
    "azure_devops": "https://dev.azure.com/contoso/a%20project/_git/images",
}
SHOWN: dict[Kind, str] = {
    "github": "https://github.com/contoso/images/pull/1",
    "azure_devops": f"{PLACES['azure_devops']}/pullrequest/1",
}


class Host(ThreadingHTTPServer):
    """The pull requests of both hosts, as far as opening one goes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pulls: list[dict[str, Any]] = []
        self.refusal = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given = json.loads(body) if body else {}
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        basic = base64.b64encode(f":{TOKEN.get_secret_value()}".encode()).decode()
        known = (f"token {TOKEN.get_secret_value()}", f"Bearer {TOKEN.get_secret_value()}", f"Basic {basic}")
        if self.headers.get("Authorization") not in known:
            self._answer(401, {"message": "Bad credentials"})
        elif self.server.refusal:
            self._answer(self.server.refusal, {"message": "no"})
        elif self.command == "GET":
            wanted = {name: values[0].rpartition(":")[2] for name, values in query.items()}
            sought = wanted.get("head") or wanted["searchCriteria.sourceRefName"]
            found = [pull for pull in self.server.pulls if sought in (pull["branch"], f"refs/heads/{pull['branch']}")]
            self._answer(200, found if address.path.startswith("/repos/") else {"value": found})
        elif len(given.get("description", "")) > LONGEST_DESCRIPTION:
            self._answer(400, {"message": "Invalid pull request description."})
        elif len(given.get("body", "")) > LONGEST_COMMENT:
            self._answer(422, {"message": "Validation Failed"})
        elif self.command == "PATCH":
            self.server.pulls[0] |= {"title": given["title"], "text": given.get("body") or given["description"]}
            self._answer(200, self.server.pulls[0])
        else:
            branch = given.get("head") or given["sourceRefName"].removeprefix("refs/heads/")
            pull = {"branch": branch, "title": given["title"], "text": given.get("body") or given["description"]}
            number = len(self.server.pulls) + 1
            pull |= {"number": number, "pullRequestId": number, "url": f"{self.server.url}{address.path}/{number}"}
            pull["html_url"] = f"https://github.com/contoso/images/pull/{number}"
            self.server.pulls.append(pull)
            self._answer(201, pull)

    do_GET = do_POST = do_PATCH = _handle  # noqa: N815 - names of http.server

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def opened(kind: Kind, api_url: str, request: PullRequest, token: SecretStr = TOKEN) -> str:
    return open_pull_request(PLACES[kind], address_of(PLACES[kind], "auto", "open_source", api_url), request, token)


@pytest.mark.parametrize("kind", PLACES)
def test_it_is_opened_once_and_kept_up_to_date(host: Host, kind: Kind) -> None:
    assert opened(kind, host.url, FIRST) == SHOWN[kind]
    assert opened(kind, host.url, SECOND) == SHOWN[kind]
    (pull,) = host.pulls
    assert (pull["branch"], pull["title"], pull["text"]) == (SECOND.branch, SECOND.title, SECOND.text)


@pytest.mark.parametrize("kind", PLACES)
def test_a_refusal_is_told_without_the_token(host: Host, kind: Kind) -> None:
    with pytest.raises(Unreachable, match="answers 401"):
        opened(kind, host.url, FIRST, SecretStr("another"))
    host.refusal = 403
    with pytest.raises(Unreachable, match="answers 403") as told:
        opened(kind, host.url, FIRST)
    assert TOKEN.get_secret_value() not in str(told.value)
    assert "open the pull request manually" in str(told.value)


@pytest.mark.parametrize("kind", PLACES)
def test_a_host_that_is_not_there(kind: Kind) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        opened(kind, "http://127.0.0.1:9", FIRST)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A public repository with one commit."""
    root, work = tmp_path / "public.git", tmp_path / "work"
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(root)], check=True)
    subprocess.run(["git", "clone", "-q", str(root), str(work)], check=True, capture_output=True)
    for arguments in (["commit", "-q", "--allow-empty", "-m", "begin"], ["push", "-q", "origin", "HEAD:main"]):
        subprocess.run(["git", "-C", str(work), *who, *arguments], check=True)
    return root


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize(("images", "shown"), [(3, 3), (250, 189), (5_000, 189)])
def test_a_description_has_as_many_lines_as_every_host_takes(
    host: Host, public: Path, tmp_path: Path, kind: Kind, images: int, shown: int
) -> None:
    lines = [f"- family/image-{number:05}" for number in range(images)]
    open_source = {"api_url": host.url, "sync_branch": FIRST.branch}
    settings = load_settings(repo=tmp_path, open_source=open_source)
    with open_public_repository(str(public), "main", Author("a", "a@b.c"), TOKEN) as repository:
        repository.url = PLACES[kind]  # its remote stays the folder
        repository.write("new", b"text\n")
        rules = LeakRules((), frozenset(), {}, ())
        proposal = propose(repository, {}, rules, lambda _: ("Update", "\n".join(lines)), settings)
    assert (proposal.outcome, proposal.pull_request) == ("proposed", SHOWN[kind])
    expected = lines[:shown] + ([f"… and {images - shown} more"] if images > shown else [])
    assert host.pulls[0]["text"].splitlines() == expected
    message = ["git", "-C", str(public), "log", "-1", "--format=%b", FIRST.branch]
    assert subprocess.run(message, check=True, capture_output=True, text=True).stdout.strip().splitlines() == expected


def test_the_repository_that_is_not_configured_is_named(tmp_path: Path) -> None:
    settings = load_settings(repo=tmp_path)
    with pytest.raises(BadInput, match=r"docs_repository: no documentation repository is configured"):
        open_place(settings.open_source.docs_place, settings).__enter__()
    with pytest.raises(BadInput, match=r"open_source\.repository: no public repository is configured"):
        open_place(settings.open_source.source_place, settings).__enter__()
