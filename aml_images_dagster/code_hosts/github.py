"""GitHub, by its REST API, through PyGithub. The library is large: import this module only where it is used."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
from github import Auth, Github, GithubException

from aml_images_dagster.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.code_hosts.address import HostAddress

_REQUEST_SECONDS = 10
_PAUSE_SECONDS = 0.25


def connect(address: HostAddress, token: str) -> Github:
    """A client. Nothing is asked before it is used."""
    return Github(
        auth=Auth.Token(token),
        base_url=address.api_url,
        timeout=_REQUEST_SECONDS,
        retry=None,  # the caller asks again later, and must not wait here
        per_page=100,
        lazy=True,
        seconds_between_requests=0,
        seconds_between_writes=_PAUSE_SECONDS,
    )


@contextmanager
def github_errors(address: HostAddress, hint: str) -> Iterator[None]:
    """Turn what the client raises into `Unreachable`.

    Args:
        address: What is asked.
        hint: What to do when the token is refused.
    """
    where, later = f"{address.api_url}/repos/{address.repository}", "Try again later."
    try:
        yield
    except GithubException as error:
        said = error.data.get("message", "") if isinstance(error.data, dict) else ""
        raise Unreachable(
            f"GitHub answers {error.status}{said and f': {said}'}",
            where=where,
            hint=hint if error.status in (401, 403, 404) else later,
        ) from None
    except requests.RequestException as error:
        raise Unreachable(
            f"GitHub does not answer: {type(error).__name__}", where=where, hint="Try again later."
        ) from None
