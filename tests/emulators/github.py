"""GitHub's REST API, as far as pull requests, commit statuses, comments and labels go.

Source: https://docs.github.com/rest
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.json_api import JsonApi, Request

LOGIN = "image-factory"
APP = "image-factory[bot]"
LONGEST_COMMENT = 65_536
LONGEST_DESCRIPTION = 140
TOKEN = "ghp_never-shown-anywhere-7f3a"
REPOSITORY = "contoso/images"


@dataclass
class OpenPullRequest:
    """A pull request as its host knows it."""

    author: str = "alice"
    labels: list[str] = field(default_factory=list)
    from_fork: bool = False


@dataclass
class GitHub(JsonApi):
    """The repository `contoso/images`.

    Attributes:
        pull_requests: The open ones by number.
        statuses: By commit, oldest first.
        comments: By number of the pull request: id, author and body.
        is_app: Whether the token is that of a GitHub App, which may not ask who it is.
    """

    pull_requests: dict[int, OpenPullRequest] = field(default_factory=dict)
    statuses: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    is_app: bool = False
    _last: int = 100

    def answer(self, request: Request) -> tuple[Any, ...]:
        if request.headers.get("Authorization") != f"token {TOKEN}":
            return 401, {"message": "Bad credentials"}
        for name, longest in (("body", LONGEST_COMMENT), ("description", LONGEST_DESCRIPTION)):
            if len((request.body or {}).get(name, "")) > longest:
                return 422, {"message": "Validation Failed", "errors": [f"{name} is too long (maximum is {longest})"]}
        path = request.path.removeprefix(f"/repos/{REPOSITORY}")
        for pattern, answer in (
            (r"/user", self._user),
            (r"/pulls", lambda: self._list(request)),
            (r"/pulls/(\d+)", lambda number: self._pull_request(int(number))),
            (r"/statuses/([0-9a-f]{40})", lambda commit: self._status(commit, request.body)),
            (r"/issues/(\d+)", lambda number: (200, {"number": int(number), "url": f"{self.url}{request.path}"})),
            (r"/issues/(\d+)/comments", lambda number: self._comments(int(number), request)),
            (r"/issues/comments/(\d+)", lambda comment: self._comment(int(comment), request)),
            (r"/issues/(\d+)/labels/(.+)", lambda number, label: self._unlabel(int(number), label)),
        ):
            if match := re.fullmatch(pattern, path):
                return answer(*match.groups())
        return 404, {"message": "Not Found"}

    def _user(self) -> tuple[int, Any]:
        if self.is_app:
            return 403, {"message": "Resource not accessible by integration"}
        return 200, {"login": LOGIN}

    def _list(self, request: Request) -> tuple[Any, ...]:
        size, page = int(request.query.get("per_page", 30)), int(request.query.get("page", 1))
        numbers = sorted(self.pull_requests)[(page - 1) * size : page * size]
        rest = len(self.pull_requests) > page * size
        next_page = f'<{self.url}{request.path}?state=open&per_page={size}&page={page + 1}>; rel="next"'
        return 200, [self._document(number) for number in numbers], {"Link": next_page} if rest else {}

    def _pull_request(self, number: int) -> tuple[int, Any]:
        return (200, self._document(number)) if number in self.pull_requests else (404, {"message": "Not Found"})

    def _document(self, number: int) -> dict[str, Any]:
        found = self.pull_requests[number]
        base = {"id": 1, "full_name": REPOSITORY}
        return {
            "number": number,
            "url": f"{self.url}/repos/{REPOSITORY}/pulls/{number}",
            "state": "open",
            "user": {"login": found.author},
            "labels": [{"name": label} for label in found.labels],
            "head": {"repo": {"id": 2, "full_name": f"{found.author}/images"} if found.from_fork else base},
            "base": {"repo": base, "ref": "main"},
        }

    def _status(self, commit: str, body: dict[str, str]) -> tuple[int, Any]:
        self.statuses[commit].append(body)
        return 201, body

    def _comments(self, number: int, request: Request) -> tuple[int, Any]:
        if request.method == "GET":
            return 200, self.comments[number] if request.query.get("page", "1") == "1" else []
        return 201, self.add_comment(number, APP if self.is_app else LOGIN, request.body["body"])

    def add_comment(self, number: int, author: str, body: str) -> dict[str, Any]:
        self._last += 1
        url = f"{self.url}/repos/{REPOSITORY}/issues/comments/{self._last}"
        is_bot = author.endswith("[bot]")
        self.comments[number].append(
            {
                "id": self._last,
                "user": {"login": author, "type": "Bot" if is_bot else "User"},
                "body": body,
                "url": url,
                "performed_via_github_app": {"id": 1, "slug": author.removesuffix("[bot]")} if is_bot else None,
            }
        )
        return self.comments[number][-1]

    def _comment(self, comment: int, request: Request) -> tuple[int, Any]:
        for found in (each for comments in self.comments.values() for each in comments):
            if found["id"] == comment:
                if request.method == "PATCH":
                    found["body"] = request.body["body"]
                return 200, found
        return 404, {"message": "Not Found"}

    def _unlabel(self, number: int, label: str) -> tuple[int, Any]:
        if label not in self.pull_requests[number].labels:
            return 404, {"message": "Label does not exist"}
        self.pull_requests[number].labels.remove(label)
        return 200, []

    def outcomes(self, commit: str) -> list[str]:
        """What was shown beside a commit, oldest first, what was shown again left out."""
        states = [status["state"] for status in self.statuses[commit]]
        return [state for index, state in enumerate(states) if index == 0 or states[index - 1] != state]
