"""The pull request of a branch: opened once, kept up to date afterwards; at GitHub and at Azure DevOps.

Sources: https://docs.github.com/rest/pulls/pulls and
https://learn.microsoft.com/rest/api/azure/devops/git/pull-requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import SecretStr

    from aml_images_dagster.code_hosts.address import HostAddress

_HINT = "The branch was pushed. Check the token and publish again, or open the pull request manually."


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


def open_pull_request(url: str, address: HostAddress, request: PullRequest, token: SecretStr) -> str:
    """Open the pull request of a branch, or bring the open one up to date.

    Args:
        url: The repository, as people open it.
        address: The same at its host.
        request: What is proposed.
        token: May write pull requests.

    Returns:
        Where people read it.

    Raises:
        Unreachable: The host refuses or does not answer.
    """
    if address.kind == "github":
        return _at_github(address, request, token.get_secret_value())
    return f"{url.rstrip('/')}/pullrequest/{_at_azure_devops(address, request, token.get_secret_value())}"


def _at_github(address: HostAddress, request: PullRequest, token: str) -> str:
    from aml_images_dagster.code_hosts.github import connect, github_errors

    head = f"{address.repository.partition('/')[0]}:{request.branch}"
    with github_errors(address, _HINT), connect(address, token) as github:
        place = github.get_repo(address.repository)
        for found in place.get_pulls(state="open", head=head, base=request.target):
            found.edit(title=request.title, body=request.text)
            return found.html_url
        made = place.create_pull(base=request.target, head=request.branch, title=request.title, body=request.text)
        return made.html_url


def _at_azure_devops(address: HostAddress, request: PullRequest, token: str) -> int:
    from aml_images_dagster.code_hosts.azure_devops import AzureDevOpsApi

    api = AzureDevOpsApi(address, token, _HINT)
    pull_requests = f"{api.repository}/pullrequests"
    refs = {"sourceRefName": f"refs/heads/{request.branch}", "targetRefName": f"refs/heads/{request.target}"}
    words = {"title": request.title, "description": request.text}
    query = {f"searchCriteria.{name}": value for name, value in refs.items()} | {"searchCriteria.status": "active"}
    found = api.ask("GET", pull_requests, query=query)["value"]
    if found:
        number = found[0]["pullRequestId"]
        api.ask("PATCH", f"{pull_requests}/{number}", words)
    else:
        number = api.ask("POST", pull_requests, refs | words)["pullRequestId"]
    return int(number)
