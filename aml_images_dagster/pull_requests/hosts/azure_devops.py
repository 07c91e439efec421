"""Azure DevOps, by its REST API.

Source: https://learn.microsoft.com/rest/api/azure/devops/git: pull requests, their statuses, threads and labels
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

from typing_extensions import override

from aml_images_dagster.code_hosts.azure_devops import AzureDevOpsApi
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.pull_requests.admission import Origin
from aml_images_dagster.pull_requests.hosts.interface import MARKER, STATUS_NAME, PullRequestHost

if TYPE_CHECKING:
    from aml_images_dagster.code_hosts.address import HostAddress
    from aml_images_dagster.pull_requests.hosts.interface import Outcome, Status

_PREVIEW = "7.1-preview"
_HINT = "If it stays: the token needs the scopes Code (status) and Pull Request Threads (read & write)."
_STATES: dict[Outcome, str] = {"pending": "pending", "success": "succeeded", "failure": "failed", "canceled": "error"}
_PAGE = 100


class AzureDevOpsHost(PullRequestHost):
    """See `PullRequestHost`.

    Args:
        address: The project and the repository.
        token: A personal access token, or the token of a pipeline, that may contribute to pull requests.
    """

    def __init__(self, address: HostAddress, token: str) -> None:
        self._api = AzureDevOpsApi(address, token, _HINT)

    @override
    def open_pull_requests(self) -> frozenset[int]:
        found: set[int] = set()
        while True:
            page = {"searchCriteria.status": "active", "$top": str(_PAGE), "$skip": str(len(found))}
            numbers = {
                one["pullRequestId"]
                for one in self._api.ask("GET", f"{self._api.repository}/pullrequests", query=page)["value"]
            }
            if len(numbers) < _PAGE:
                return frozenset(found | numbers)
            if numbers <= found:
                raise Unreachable(
                    "Azure DevOps returns the same page of pull requests again",
                    where=self._api.repository,
                    hint="Does a proxy or a server of another version ignore $skip?",
                )
            found |= numbers

    @override
    def origin(self, number: int) -> Origin:
        found = self._api.ask("GET", self._pull_request(number))
        return Origin(
            author=found["createdBy"].get("uniqueName") or found["createdBy"]["id"],
            labels=frozenset(label["name"] for label in found.get("labels", ()) if label.get("active", True)),
            same_repository="forkSource" not in found,
        )

    def set_status(self, number: int, head: str, status: Status) -> None:
        """See `PullRequestHost`. The status is that of the pull request: its head is a hidden merge commit."""
        body = {
            "state": _STATES[status.outcome],
            "description": f"{head[:8]}: {status.description}",
            "context": {"name": STATUS_NAME, "genre": "build"},
        }
        if status.url:
            body["targetUrl"] = status.url
        self._api.ask("POST", f"{self._pull_request(number)}/statuses", body)

    def write_comment(self, number: int, comment: str, body: str) -> str:
        """See `PullRequestHost`. The comment is the first of a thread that is closed: it waits for no answer."""
        threads = f"{self._pull_request(number)}/threads"
        found = comment or self._own_comment(threads)
        if found:
            thread, _, its_comment = found.partition("/")
            path = f"{threads}/{thread}/comments/{its_comment}"
            if self._api.ask("PATCH", path, {"content": body}, may_be_missing=True) is not None:
                return found
        first = {"parentCommentId": 0, "content": body, "commentType": "text"}
        made = self._api.ask("POST", threads, {"comments": [first], "status": "closed"})
        return f"{made['id']}/{made['comments'][0]['id']}"

    @override
    def remove_label(self, number: int, label: str) -> None:
        self._api.ask("DELETE", f"{self._pull_request(number)}/labels/{quote(label, safe='')}", may_be_missing=True)

    def _pull_request(self, number: int) -> str:
        return f"{self._api.repository}/pullRequests/{number}"

    def _own_comment(self, threads: str) -> str:
        """Our comment, when it is not known any more. Others can copy the marker, so the author is checked."""
        for thread in self._api.ask("GET", threads)["value"]:
            for comment in thread.get("comments", ())[:1]:
                is_ours = comment.get("author", {}).get("id") == self._identity
                if is_ours and not comment.get("isDeleted") and comment.get("content", "").startswith(MARKER):
                    return f"{thread['id']}/{comment['id']}"
        return ""

    @cached_property
    def _identity(self) -> str:
        found = self._api.ask("GET", f"{self._api.organisation}/_apis/connectionData", version=_PREVIEW)
        return str(found["authenticatedUser"]["id"])
