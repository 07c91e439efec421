"""Names of frontends, and their mirrors."""

from __future__ import annotations

import pytest

from aml_images_dagster.catalog.builder_features import asks_for_more, is_dockerfile_frontend, mirrored_frontend


@pytest.mark.parametrize(
    ("syntax", "is_usual", "more"),
    [
        ("docker/dockerfile", True, False),
        ("docker/dockerfile:1", True, False),
        ("docker.io/docker/dockerfile:latest", True, False),
        ("docker/dockerfile:1.7", True, True),
        ("docker/dockerfile:1-labs", True, True),
        ("docker/dockerfile-upstream:master", True, True),
        ("docker/dockerfile:1@sha256:0", True, True),
        ("stranger.example/docker/dockerfile:1", False, False),
        ("docker/dockerfiles", False, False),
    ],
)
def test_what_a_frontend_is(syntax: str, is_usual: bool, more: bool) -> None:
    assert is_dockerfile_frontend(syntax) is is_usual
    assert asks_for_more(syntax) is more


@pytest.mark.parametrize(
    ("syntax", "place"),
    [
        ("docker/dockerfile:1.7", "mirror.example/dockerfile:1.7"),
        ("docker.io/docker/dockerfile", "mirror.example/dockerfile"),
        ("docker/dockerfile@sha256:0", "mirror.example/dockerfile@sha256:0"),
        ("docker/dockerfile-upstream:master", ""),
        ("stranger.example/docker/dockerfile:1", ""),
    ],
)
def test_where_a_frontend_is_fetched(syntax: str, place: str) -> None:
    assert mirrored_frontend(syntax, {"docker/dockerfile": "mirror.example/dockerfile"}) == place
