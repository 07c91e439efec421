"""Which mirror stands in for which reference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.resolution import Mirrors

MIRRORS = Mirrors(
    {
        "docker.io": "127.0.0.1:5000/mirror/docker.io",
        "docker.io/library/": "fast.example/library",
        "quay.io/team": "quay.io/mirror-of-team",
    }
)


@pytest.mark.parametrize(
    ("reference", "mirrored"),
    [
        ("debian:12", "fast.example/library/debian:12"),
        ("team/tool", "127.0.0.1:5000/mirror/docker.io/team/tool"),
        ("quay.io/team/x/y:1", "quay.io/mirror-of-team/x/y:1"),
        ("quay.io/teammate/x:1", None),
        ("docker.io.example/x", None),
        (f"debian@sha256:{'0' * 64}", f"fast.example/library/debian@sha256:{'0' * 64}"),
    ],
)
def test_the_longest_prefix_at_a_slash_wins(reference, mirrored):
    found = MIRRORS.of(Reference.parse(reference))
    assert (str(found) if found else None) == mirrored


@pytest.mark.parametrize("wrong", ["", "Docker.IO/UPPER", "https://mirror.example", "mirror", "a b"])
def test_what_is_no_location_is_refused(wrong):
    with pytest.raises(BadInput, match="base_mirrors"):
        Mirrors({"docker.io": wrong})
    with pytest.raises(BadInput, match="base_mirrors"):
        Mirrors({wrong: "mirror.example"})


@given(st.from_regex(r"[a-z0-9]{1,9}(/[a-z0-9]{1,9}){0,3}(:[a-z0-9]{1,5})?", fullmatch=True))
def test_a_mirror_keeps_repository_and_version(text):
    reference = Reference.parse(f"registry.example/{text}")
    found = Mirrors({"registry.example": "mirror.example:5000/below"}).of(reference)
    assert found == Reference("mirror.example:5000", f"below/{reference.repository}", reference.tag)
