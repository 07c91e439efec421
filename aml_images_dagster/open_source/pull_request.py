"""The pull request of a branch: opened once, kept up to date afterwards; at GitHub and at Azure DevOps.

Sources: https://docs.github.com/rest/pulls/pulls and
https://learn.microsoft.com/rest/api/azure/devops/git/pull-requests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aml_images_dagster.errors import BadInput, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

HostKind = Literal["github", "azure_devops"]

_REQUEST_SECONDS = 30
_API_VERSION = "7.1"
_PLACES: dict[HostKind, re.Pattern[str]] = {
    "github": re.compile(r"(?P<host>https://[^/]+)/(?P<repository>[^/]+/[^/]+?)(?:\.git)?/?"),
    "azure_devops": re.compile(r"(?P<host>https://[^/]+/[^/]+)/(?P<project>[^/]+)/_git/(?P<name>[^/]+)/?"),
}
_HOSTS: dict[HostKind, str] = {"github": "https://github.com/", "azure_devops": "https://dev.azure.com/"}
_GITHUB_API = "https://api.github.com"
_MEND = "The branch was pushed. Check the token and publish again, or open the pull request by hand."


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What is proposed.

    Attributes:
        branch: The branch that holds it.
        target: The branch that it is to go to.
        title: Its title.
        text: Its description.
    """

    branch: str
    target: str
    title: str
    text: str


def host_kind(url: str, wanted: HostKind | Literal["auto", "none"]) -> HostKind | Literal["none"]:
    """What stands behind a repository: what the settings say, or what its URL tells."""
    if wanted != "auto":
        return wanted
    return next((kind for kind, host in _HOSTS.items() if url.startswith(host)), "none")


def open_pull_request(url: str, kind: HostKind, api_url: str, request: PullRequest, token: SecretStr) -> str:
    """Open the pull request of a branch, or bring the open one up to date.

    Args:
        url: The repository.
        kind: What stands behind it.
        api_url: Address of the host's API; empty derives it from the URL.
        request: What is proposed.
        token: May write pull requests.

    Returns:
        Where people read it.

    Raises:
        BadInput: The URL does not tell which repository it is at its host.
        Unreachable: The host refuses or does not answer.
    """
    place = _PLACES[kind].fullmatch(url)
    if place is None:
        raise BadInput(
            "the URL does not tell which repository it is at its host",
            where=url,
            mend="Write https://github.com/OWNER/NAME or https://dev.azure.com/ORGANISATION/PROJECT/_git/NAME.",
        )
    if kind == "github":
        host = place["host"]
        api = api_url or (_GITHUB_API if f"{host}/" == _HOSTS["github"] else f"{host}/api/v3")
        return _at_github(api, place["repository"], request, token)
    repository = f"{place['project']}/_apis/git/repositories/{place['name']}"
    number = _at_azure_devops(f"{api_url or place['host']}/{repository}/pullrequests", request, token)
    return f"{url.rstrip('/')}/pullrequest/{number}"


def _at_github(api: str, repository: str, request: PullRequest, token: SecretStr) -> str:
    import requests
    from github import Auth, Github, GithubException

    where = f"{api}/repos/{repository}"
    auth = Auth.Token(token.get_secret_value())
    try:
        with Github(auth=auth, base_url=api, timeout=_REQUEST_SECONDS, retry=None, lazy=True) as github:
            place = github.get_repo(repository)
            head = f"{repository.partition('/')[0]}:{request.branch}"
            for found in place.get_pulls(state="open", head=head, base=request.target):
                found.edit(title=request.title, body=request.text)
                return found.html_url
            made = place.create_pull(base=request.target, head=request.branch, title=request.title, body=request.text)
            return made.html_url
    except GithubException as error:
        said = error.data.get("message", "") if isinstance(error.data, dict) else ""
        raise Unreachable(f"GitHub answers {error.status}: {said}", where=where, mend=_MEND) from None
    except requests.RequestException as error:
        raise Unreachable(f"GitHub does not answer: {type(error).__name__}", where=where, mend=_MEND) from None


def _at_azure_devops(pull_requests: str, request: PullRequest, token: SecretStr) -> int:
    refs = {"sourceRefName": f"refs/heads/{request.branch}", "targetRefName": f"refs/heads/{request.target}"}
    words = {"title": request.title, "description": request.text}
    query = {f"searchCriteria.{name}": value for name, value in refs.items()} | {"searchCriteria.status": "active"}
    for found in _ask("GET", pull_requests, token, query=query)["value"]:
        number = int(found["pullRequestId"])
        _ask("PATCH", f"{pull_requests}/{number}", token, words)
        return number
    return int(_ask("POST", pull_requests, token, refs | words)["pullRequestId"])


def _ask(method: str, url: str, token: SecretStr, body: object = None, query: Mapping[str, str] | None = None) -> Any:
    import requests

    try:
        answer = requests.request(
            method,
            url,
            params={"api-version": _API_VERSION, **(query or {})},
            json=body,
            auth=("", token.get_secret_value()),
            timeout=_REQUEST_SECONDS,
            allow_redirects=False,  # to a sign-in page, when the token does not count
        )
    except requests.RequestException as error:
        raise Unreachable(f"Azure DevOps does not answer: {type(error).__name__}", where=url, mend=_MEND) from None
    # 203 is its way to show a sign-in page.
    if not answer.ok or answer.is_redirect or answer.status_code == requests.codes.non_authoritative_info:
        raise Unreachable(f"Azure DevOps answers {answer.status_code} {answer.reason}", where=url, mend=_MEND)
    return answer.json()
