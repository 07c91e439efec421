"""GitHub, by its REST API, through PyGithub.

Source: https://docs.github.com/rest/commits/statuses and https://docs.github.com/rest/issues/comments
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

from github import GithubException
from typing_extensions import override

from aml_images_dagster.code_hosts.github import connect, github_errors
from aml_images_dagster.pull_requests.admission import Origin
from aml_images_dagster.pull_requests.hosts.interface import MARKER, STATUS_NAME, PullRequestHost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from github.Issue import Issue
    from github.IssueComment import IssueComment

    from aml_images_dagster.code_hosts.address import HostAddress
    from aml_images_dagster.pull_requests.hosts.interface import Outcome, Status

_STATES: dict[Outcome, str] = {"pending": "pending", "success": "success", "failure": "failure", "canceled": "error"}
_DESCRIPTION_LENGTH = 140
_HINT = "Give the token write access to commit statuses and pull requests."
_NOT_FOUND = 404


class GitHubHost(PullRequestHost):
    """See `PullRequestHost`.

    Args:
        address: The repository.
        token: Needs to write commit statuses and pull requests.
    """

    def __init__(self, address: HostAddress, token: str) -> None:
        self._address = address
        self._github = connect(address, token)
        self._repository = self._github.get_repo(address.repository)

    @override
    def open_pull_requests(self) -> frozenset[int]:
        with self._explained():
            return frozenset(found.number for found in self._repository.get_pulls(state="open"))

    @override
    def origin(self, number: int) -> Origin:
        with self._explained():
            found = self._repository.get_pull(number)
            # The repository of the head is none once a fork is deleted.
            same = found.head.repo is not None and found.head.repo.id == found.base.repo.id
            labels = frozenset(label.name for label in found.labels)
            return Origin(found.user.login, labels, same)

    @override
    def set_status(self, number: int, head: str, status: Status) -> None:
        with self._explained():
            body = {
                "state": _STATES[status.outcome],
                "context": STATUS_NAME,
                "description": _shortened(status.description),
            }
            if status.url:
                body["target_url"] = status.url
            # Not by way of the commit object, which would be asked for first.
            self._github.requester.requestJsonAndCheck("POST", f"{self._repository.url}/statuses/{head}", input=body)

    @override
    def write_comment(self, number: int, comment: str, body: str) -> str:
        with self._explained():
            issue = self._repository.get_issue(number)
            found = comment or self._own_comment(issue)
            if found:
                with _may_be_missing():  # it was deleted
                    issue.get_comment(int(found)).edit(body)
                    return found
            return str(issue.create_comment(body).id)

    @override
    def remove_label(self, number: int, label: str) -> None:
        with self._explained(), _may_be_missing():
            self._repository.get_issue(number).remove_from_labels(label)

    def _own_comment(self, issue: Issue) -> str:
        """Our comment, when it is not known any more. Others can copy the marker, so the author is checked."""
        for comment in issue.get_comments():
            if comment.body.startswith(MARKER) and self._is_ours(comment):
                return str(comment.id)
        return ""

    def _is_ours(self, comment: IssueComment) -> bool:
        if self._login:
            return comment.user.login == self._login
        # An app may not ask for its name. What an app writes is a bot's; owners choose who may be one.
        return comment.user.type == "Bot" and comment.performed_via_github_app is not None

    @cached_property
    def _login(self) -> str:
        with suppress(GithubException):  # tokens of GitHub Apps may not ask who they are
            return self._github.get_user().login
        return ""

    def _explained(self) -> AbstractContextManager[None]:
        return github_errors(self._address, _HINT)


@contextmanager
def _may_be_missing() -> Iterator[None]:
    try:
        yield
    except GithubException as error:
        if error.status != _NOT_FOUND:
            raise


def _shortened(text: str) -> str:
    return text if len(text) <= _DESCRIPTION_LENGTH else f"{text[: _DESCRIPTION_LENGTH - 1]}…"
