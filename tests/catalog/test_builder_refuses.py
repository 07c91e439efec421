"""What the builder refuses, validation refuses, and nothing else; test_builder_agrees.py asks the builder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.builder_features import BUILDKIT, BuilderFeatures
from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.catalog.validation import validate
from tests.catalog.written_dockerfiles import ACCEPTED, CONTEXT, LINKS, REFUSED
from tests.real_builder import is_harmless, write

if TYPE_CHECKING:
    from pathlib import Path

Errors = Callable[[str], list[str]]

# As Docker 26.1.5 answers when it is asked.
OF_DOCKER_26 = BuilderFeatures(
    "Docker 26.1.5", BUILDKIT.supported - {"COPY --parents", "COPY --exclude", "ADD --exclude", "RUN --security"}
)


@pytest.fixture
def errors(tmp_path: Path) -> Errors:
    """What validation says of a Dockerfile."""
    folder = tmp_path / "images" / "f" / "x"
    write(folder, CONTEXT, LINKS)

    def find(text: str, features: BuilderFeatures = OF_DOCKER_26) -> list[str]:
        (folder / "Dockerfile").write_bytes(text.encode())
        tree = WorkingTree(tmp_path)
        catalog = Catalog.load(tree, "images", ())
        found = validate(catalog, tree, publishes=False, features_of=lambda _: features)
        return [finding.message for finding in found if finding.severity == "error"]

    return find


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_builder_accepts_is_no_error(errors: Errors, text: str) -> None:
    assert errors(text) == []


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_the_builder_refuses_is_an_error(errors: Errors, text: str) -> None:
    assert errors(text)


@pytest.mark.parametrize(
    "lines",
    [
        "COPY ${A#} /x",
        "COPY a.txt /${PATH%}",
        "COPY ${A#$B} /x",
        "COPY --chmod=${A%$B} a.txt /x",
        "WORKDIR /${A#''}",
        "RUN echo ${A%}",
        "ENV E=\nRUN echo ${PATH#$E}",
        "RUN <<E\necho ${A#}\nE",
        "COPY <<E /x\n${A%$B}\nE",
        "LABEL a=${A:+${B#}}",
    ],
)
def test_what_ends_the_engine_is_never_given_to_it(errors: Errors, lines: str) -> None:
    text = f"FROM debian:12\n{lines}\n"
    assert any("no pattern stands behind" in error for error in errors(text))
    assert not is_harmless(text)


def test_stages_in_a_circle_through_from_are_never_given_to_the_engine(errors: Errors) -> None:
    text = "FROM scratch AS a\nCOPY a.txt /\nFROM scratch AS b\n{}\nFROM b AS a\nCOPY b.txt /\n"
    for line in ("COPY --from=a / /", "COPY --from=2 / /", "RUN --mount=from=A,target=/x true"):
        circular = text.format(line)
        assert any("names a stage that is not complete here" in error for error in errors(circular))
        assert not is_harmless(circular)
    assert is_harmless(text.format("COPY --from=0 / /"))


def test_patterns_of_a_shell_are_no_error(errors: Errors) -> None:
    assert (
        errors('FROM debian:12\nARG B=b\nRUN for f in *; do mv $f ${f%$e}; echo "${f#"$e"}" ${f##*/} ${#f}; done\n')
        == []
    )
