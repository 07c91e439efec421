"""The REST API of Azure DevOps, as far as pull requests, their statuses, threads and labels go.

Source: https://learn.microsoft.com/rest/api/azure/devops/git
"""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.emulators.json_api import JsonApi, Request

if TYPE_CHECKING:
    from tests.emulators.github import OpenPullRequest

IDENTITY = "0c9b6e0e-factory"
TOKEN = "azure-token-never-shown-anywhere-91c2"
REPOSITORY = "Image Project/images"
API = "/contoso/Image%20Project/_apis/git/repositories/images"


@dataclass
class AzureDevOps(JsonApi):
    """The organisation `contoso` with one repository.

    Attributes:
        pull_requests: The open ones by number.
        statuses: By number, oldest first.
        threads: By number.
    """

    pull_requests: dict[int, OpenPullRequest] = field(default_factory=dict)
    statuses: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    threads: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    _last: int = 10

    def answer(self, request: Request) -> tuple[Any, ...]:
        expected = base64.b64encode(f":{TOKEN}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            return 302, None
        if not request.query.get("api-version", "").startswith("7.1"):
            return 400, {"message": "no version"}
        if request.path == "/contoso/_apis/connectionData":
            return 200, {"authenticatedUser": {"id": IDENTITY}}
        path = request.path.removeprefix(API)
        for pattern, answer in (
            (r"/pullrequests", lambda: self._list(request)),
            (r"/pullRequests/(\d+)", lambda number: self._pull_request(int(number))),
            (r"/pullRequests/(\d+)/statuses", lambda number: self._status(int(number), request.body)),
            (r"/pullRequests/(\d+)/threads", lambda number: self._threads(int(number), request)),
            (r"/pullRequests/(\d+)/threads/(\d+)/comments/(\d+)", lambda *ids: self._comment(*map(int, ids), request)),
            (r"/pullRequests/(\d+)/labels/(.+)", lambda number, label: self._unlabel(int(number), unquote(label))),
        ):
            if match := re.fullmatch(pattern, path):
                return answer(*match.groups())
        return 404, {"message": "not found"}

    def _list(self, request: Request) -> tuple[int, Any]:
        top, skip = int(request.query["$top"]), int(request.query["$skip"])
        return 200, {"value": [{"pullRequestId": number} for number in sorted(self.pull_requests)[skip : skip + top]]}

    def _pull_request(self, number: int) -> tuple[int, Any]:
        found = self.pull_requests[number]
        document = {
            "pullRequestId": number,
            "createdBy": {"id": "4711", "uniqueName": found.author},
            "labels": [{"name": label, "active": True} for label in found.labels],
            "targetRefName": "refs/heads/main",
        }
        return 200, document | ({"forkSource": {"name": "refs/heads/x"}} if found.from_fork else {})

    def _status(self, number: int, body: dict[str, Any]) -> tuple[int, Any]:
        self.statuses[number].append(body)
        return 200, body

    def _threads(self, number: int, request: Request) -> tuple[int, Any]:
        if request.method == "GET":
            return 200, {"value": self.threads[number]}
        self._last += 1
        comments = [{**request.body["comments"][0], "id": 1, "author": {"id": IDENTITY}}]
        self.threads[number].append({"id": self._last, "status": request.body["status"], "comments": comments})
        return 200, self.threads[number][-1]

    def _comment(self, number: int, thread: int, comment: int, request: Request) -> tuple[int, Any]:
        for found in self.threads[number]:
            if found["id"] == thread and found["comments"][0]["id"] == comment:
                found["comments"][0]["content"] = request.body["content"]
                return 200, found["comments"][0]
        return 404, {"message": "not found"}

    def _unlabel(self, number: int, label: str) -> tuple[int, Any]:
        self.pull_requests[number].labels.remove(label)
        return 200, None
