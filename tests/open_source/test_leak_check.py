"""What must not become public, in single texts; in a whole repository: test_publication.py."""

from __future__ import annotations

import re

import pytest

from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.open_source.leak_check import LeakRules, check_for_leaks
from aml_images_dagster.open_source.public_part import PublicFile
from aml_images_dagster.settings.open_source import OpenSourceSettings

PATH = "base/a/Dockerfile"
RULES = LeakRules(
    tuple(re.compile(pattern, re.IGNORECASE) for pattern in OpenSourceSettings().internal_name_patterns),
    frozenset({"contoso.azurecr.io"}),
    {},
    (),
)


def found(text: str, rules: LeakRules = RULES) -> list[tuple[int, str]]:
    leaks = check_for_leaks({PATH: PublicFile(FileMode.REGULAR, text.encode())}, rules)
    return [(leak.line, leak.what) for leak in leaks]


@pytest.mark.parametrize(
    "name", ["10.2.1.243", "192.168.0.7", "172.16.0.1", "files.contoso.corp", "build.lan", "staging.azurecr.io"]
)
def test_internal_names(name: str) -> None:
    for line in (f"RUN wget https://{name}/x", f"# see {name}", f"ENV HOST={name}"):
        assert found(f"FROM busybox\n{line}\n") == [(2, f"the internal name {name!r}")]


@pytest.mark.parametrize(
    "line",
    [
        "RUN apt-get install -y libcublas10=10.2.1.243-1",
        "RUN apt-get install -y libnvinfer=10.3.0.26-1+cuda12.5",
        "RUN pip install tensorrt==10.0.1.6",
        "FROM contoso.azurecr.io/base:1",
    ],
)
def test_versions_and_places_of_publication_are_no_internal_names(line: str) -> None:
    assert found(f"{line}\n") == []


def test_a_public_place_hides_no_internal_one_in_its_line() -> None:
    line = "COPY --from=contoso.azurecr.io/a /a /a # as staging.azurecr.io has it"
    assert found(line) == [(1, "the internal name 'staging.azurecr.io'")]
