"""Azure DevOps, by its REST API.

Source: https://learn.microsoft.com/rest/api/azure/devops/git
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests

from aml_images_dagster.errors import Unreachable
from aml_images_dagster.http_session import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.code_hosts.address import HostAddress

_REQUEST_SECONDS = 10
_API_VERSION = "7.1"
_NOT_FOUND = 404
_DONE = (200, 201, 204)  # not 203 and not 302: these show who has no good token where to sign in


class AzureDevOpsApi:
    """A connection.

    Args:
        address: The project and the repository.
        token: A personal access token, or the token of a pipeline.
        hint: What to do when the token is refused.

    Attributes:
        organisation: URL of the organisation.
        repository: URL of the repository in the API.
    """

    def __init__(self, address: HostAddress, token: str, hint: str) -> None:
        project, name = (quote(part) for part in address.repository.split("/"))
        self.organisation = address.api_url
        self.repository = f"{address.api_url}/{project}/_apis/git/repositories/{name}"
        self._hint = hint
        self._session = open_session(loopback=False, repeat=False)
        self._session.auth = ("", token)
        self._session.headers["Accept"] = "application/json"

    def ask(
        self,
        method: str,
        url: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        may_be_missing: bool = False,
        version: str = _API_VERSION,
    ) -> Any:
        """Make a request and return the answer's document; None for something that is missing and may be.

        Raises:
            Unreachable: It does not answer, or refuses.
        """
        try:
            answer = self._session.request(
                method,
                url,
                params={"api-version": version, **(query or {})},
                json=body,
                timeout=_REQUEST_SECONDS,
                allow_redirects=False,  # to a sign-in page, when the token does not count
            )
            if may_be_missing and answer.status_code == _NOT_FOUND:
                return None
            if answer.status_code in _DONE:
                return answer.json() if answer.content else {}
        except requests.RequestException as error:
            raise Unreachable(
                f"Azure DevOps does not answer: {type(error).__name__}", where=self.repository, hint="Try again later."
            ) from None
        raise Unreachable(
            f"Azure DevOps answers {answer.status_code} {answer.reason}", where=self.repository, hint=self._hint
        )
