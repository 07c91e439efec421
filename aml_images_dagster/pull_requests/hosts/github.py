"""GitHub, by its REST API, through PyGithub.

Source: https://docs.github.com/rest/commits/statuses and https://docs.github.com/rest/issues/comments
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

import requests
from github import Auth, Github, GithubException

from aml_images_dagster.errors import Unreachable
from aml_images_dagster.pull_requests.admission import Origin
from aml_images_dagster.pull_requests.hosts.interface import MARKER, REQUEST_SECONDS, STATUS_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from github.Issue import Issue

    from aml_images_dagster.pull_requests.hosts.address import HostAddress
    from aml_images_dagster.pull_requests.hosts.interface import Outcome, Status

_STATES: dict[Outcome, str] = {"pending": "pending", "success": "success", "failure": "failure", "cancelled": "error"}
_DESCRIPTION_LENGTH = 140
_PAUSE_SECONDS = 0.25
_NOT_FOUND = 404


class GitHubHost:
    """See `PullRequestHost`.

    Args:
        address: The repository.
        token: Needs to write commit statuses and pull requests.
    """

    def __init__(self, address: HostAddress, token: str) -> None:
        self._where = f"{address.api_url}/repos/{address.repository}"
        self._github = Github(
            auth=Auth.Token(token),
            base_url=address.api_url,
            timeout=REQUEST_SECONDS,
            retry=None,  # whoever asks does so again later, and must not wait here
            per_page=100,
            lazy=True,
            seconds_between_requests=0,
            seconds_between_writes=_PAUSE_SECONDS,
        )
        self._repository = self._github.get_repo(address.repository)

    def open_pull_requests(self) -> frozenset[int]:
        """See `PullRequestHost`."""
        with self._explained():
            return frozenset(found.number for found in self._repository.get_pulls(state="open"))

    def origin(self, number: int) -> Origin:
        """See `PullRequestHost`."""
        with self._explained():
            found = self._repository.get_pull(number)
            # The repository of the head is none once a fork is deleted.
            same = found.head.repo is not None and found.head.repo.id == found.base.repo.id
            labels = frozenset(label.name for label in found.labels)
            return Origin(found.user.login, labels, same)

    def set_status(self, number: int, head: str, status: Status) -> None:
        """See `PullRequestHost`."""
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

    def write_comment(self, number: int, comment: str, body: str) -> str:
        """See `PullRequestHost`."""
        with self._explained():
            issue = self._repository.get_issue(number)
            found = comment or self._own_comment(issue)
            if found:
                with _may_be_missing():  # somebody has deleted it
                    issue.get_comment(int(found)).edit(body)
                    return found
            return str(issue.create_comment(body).id)

    def remove_label(self, number: int, label: str) -> None:
        """See `PullRequestHost`."""
        with self._explained(), _may_be_missing():
            self._repository.get_issue(number).remove_from_labels(label)

    def _own_comment(self, issue: Issue) -> str:
        """Our comment, when it is not known any more. Anybody can copy the marker, so the author counts."""
        if self._login:
            for comment in issue.get_comments():
                if comment.user.login == self._login and comment.body.startswith(MARKER):
                    return str(comment.id)
        return ""

    @cached_property
    def _login(self) -> str:
        with suppress(GithubException):  # tokens of GitHub Apps may not ask who they are
            return self._github.get_user().login
        return ""

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except GithubException as error:
            said = error.data.get("message", "") if isinstance(error.data, dict) else ""
            mend = "Give the token write access to commit statuses and pull requests."
            raise Unreachable(
                f"GitHub answers {error.status}{said and f': {said}'}",
                where=self._where,
                mend=mend if error.status in (401, 403, 404) else "It is tried again.",
            ) from None
        except requests.RequestException as error:
            raise Unreachable(f"GitHub does not answer: {type(error).__name__}", where=self._where) from None


@contextmanager
def _may_be_missing() -> Iterator[None]:
    try:
        yield
    except GithubException as error:
        if error.status != _NOT_FOUND:
            raise


def _shortened(text: str) -> str:
    return text if len(text) <= _DESCRIPTION_LENGTH else f"{text[: _DESCRIPTION_LENGTH - 1]}…"
