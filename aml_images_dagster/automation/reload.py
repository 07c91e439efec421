"""Asking Dagster to load a code location again."""

from __future__ import annotations

from urllib.parse import urlsplit

from aml_images_dagster.errors import Unreachable

_SECONDS = 40
"""Shorter than the minute after which Dagster ends the tick of a sensor."""


def reload_code_location(ui_url: str, location: str) -> None:
    """Load a code location again, so that it sees other images. Runs that go on keep what they have seen.

    Args:
        ui_url: Address of the Dagster UI.
        location: Name of the code location.

    Raises:
        Unreachable: The UI does not answer, or the location does not load.
    """
    from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError, ReloadRepositoryLocationStatus

    url = urlsplit(ui_url)
    where = f"{url.hostname}{f':{url.port}' if url.port else ''}{url.path.rstrip('/')}"
    try:
        client = DagsterGraphQLClient(where, use_https=url.scheme == "https", timeout=_SECONDS)
        answer = client.reload_repository_location(location)
    except (DagsterGraphQLClientError, OSError) as error:
        raise Unreachable(
            "the Dagster UI does not answer, and only it can load the code location again",
            where=ui_url,
            mend="Start it, or set pull_requests.ui_url to its address.",
        ) from error
    if answer.status is not ReloadRepositoryLocationStatus.SUCCESS:
        raise Unreachable(f"the code location does not load again: {answer.message}", where=location)
