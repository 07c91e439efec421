"""Generated Dockerfiles: what was put in is read back, however it is written, and pinning touches nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.catalog.dockerfile import combine, in_every_stage, parse_dockerfile, pin, without_directives
from aml_images_dagster.catalog.dockerfile.instructions import read_instructions
from aml_images_dagster.errors import BadInput

DIGEST = "sha256:" + "0123456789abcdef" * 4

names = st.from_regex(r"[a-z][a-z0-9]{0,5}([._-][a-z0-9]{1,3})?", fullmatch=True)
references = st.builds(
    lambda registry, path, tag: f"{registry}{path}{tag}",
    st.sampled_from(["", "quay.io/", "127.0.0.1:5000/", "mcr.microsoft.com/azureml/"]),
    # Stages are called s<number> below: an image must not be called so.
    names.map("image-{}".format),
    st.sampled_from(["", ":1.2", ":v_1-a", f"@{DIGEST}"]),
)


@dataclass(frozen=True)
class Style:
    """How a Dockerfile is written, without a change of meaning."""

    end: str
    mark: str
    escape: str

    def render(self, lines: list[str]) -> str:
        directive = ["# escape=`"] if self.escape == "`" else []
        text = "".join(line + "\n" for line in [*directive, *lines])
        return self.mark + text.replace("\\", self.escape).replace("\n", self.end)


styles = st.builds(Style, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\ufeff"]), st.sampled_from("\\`"))

from_forms = st.sampled_from(
    [
        "FROM {0}",
        "from \\\n  {0}",
        "FROM \\\n# FROM no\n\n  {0}",
        'FROM "{0}"',
        "FROM --platform=linux/amd64 {0}",
        "FROM ${{UNSET:-{0}}}",
        "FROM ${{UNSET-{0}}}",
        "FROM ${{TARGETOS:+{0}}}",
    ]
)
source_forms = st.sampled_from(
    [
        ("copy", "COPY --from={0} /a /b"),
        ("copy", "copy --chown=1:1 \\\n  --from={0} /a /b"),
        ("copy", 'COPY --from="{0}" /a /b'),
        ("mount", "RUN --mount=type=bind,from={0},target=/a ls"),
        ("mount", "RUN --mount=target=/a,from={0} \\\n  # comment\n  ls && \\\n\n  ls"),
        ("mount", "RUN --mount=target=/a,from={0} cat <<EOF > /b\nFROM no\nEOF"),
    ]
)
noise = st.sampled_from(
    [
        "# FROM no",
        "",
        "   ",
        "RUN <<EOF\nFROM no\nCOPY --from=no /a /b\nEOF",
        "RUN cat <<-'E1' <<E2\n\tFROM no\n\tE1\nFROM no\nE2",
        "RUN echo \\\n  # FROM no\n\n FROM no",
        "RUN echo FROM no && x=$((1<<2))",
        "ENV FROM=no",
        'LABEL from="FROM no"',
        "ARG FROM=no",
    ]
)


@st.composite
def dockerfiles(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    """Lines, and the uses that they stand for."""
    lines: list[str] = []
    expected: list[tuple[str, str]] = []
    for index in range(draw(st.integers(1, 4))):
        name = f" AS {draw(st.sampled_from(['s', 'S']))}{index}"
        if index and draw(st.booleans()):
            lines.append(f"FROM s{draw(st.integers(0, index - 1))}{name}")
        else:
            base = draw(references)
            lines.append(draw(from_forms).format(base) + name)
            expected.append(("from", base))
        for _ in range(draw(st.integers(0, 3))):
            if index and draw(st.booleans()):
                lines.append(f"COPY --from={draw(st.sampled_from(['s', 'S', '']))}{index - 1} /a /b")
            elif draw(st.booleans()):
                kind, form = draw(source_forms)
                source = draw(references)
                lines.append(form.format(source))
                expected.append((kind, source))
            lines.append(draw(noise))
    return lines, expected


@settings(deadline=None)
@given(dockerfiles(), styles)
def test_uses_are_read_back(made: tuple[list[str], list[tuple[str, str]]], style: Style) -> None:
    lines, expected = made
    text = style.render(lines)
    assert [(use.kind, use.reference) for use in parse_dockerfile(text).uses] == expected
    assert parse_dockerfile(text.encode()) == parse_dockerfile(text)


@settings(deadline=None)
@given(dockerfiles(), styles, st.data())
def test_pinning_changes_the_references_and_nothing_else(
    made: tuple[list[str], list[tuple[str, str]]], style: Style, data: st.DataObject
) -> None:
    dockerfile = parse_dockerfile(style.render(made[0]))
    found = sorted({use.reference for use in dockerfile.uses})
    chosen = data.draw(st.lists(st.sampled_from(found), unique=True))
    pins = {reference: f"127.0.0.1:5000/pinned/{found.index(reference)}@{DIGEST}" for reference in chosen}
    pinned = parse_dockerfile(pin(dockerfile, pins))
    assert [use.reference for use in pinned.uses] == [pins.get(use.reference, use.reference) for use in dockerfile.uses]
    assert outside_of_uses(pinned.text, pinned.uses) == outside_of_uses(dockerfile.text, dockerfile.uses)
    assert pin(dockerfile, {}) == dockerfile.text


@settings(deadline=None)
@given(dockerfiles(), styles)
def test_a_label_is_the_first_instruction_of_every_stage_and_changes_nothing_else(
    made: tuple[list[str], list[tuple[str, str]]], style: Style
) -> None:
    dockerfile = parse_dockerfile(style.render(made[0]))
    labelled = parse_dockerfile(in_every_stage(dockerfile.text, ["LABEL who=stranger"]))
    label = "LABEL who=stranger"
    assert [use.reference for use in labelled.uses] == [use.reference for use in dockerfile.uses]
    assert [(stage.base, stage.name) for stage in labelled.stages] == [(s.base, s.name) for s in dockerfile.stages]
    lines = labelled.text.split("\n")
    assert lines.count(label) == len(dockerfile.stages)
    lines = [line for line in lines if line != label]
    assert "\n".join(lines) == dockerfile.text
    instructions = read_instructions(labelled.text, str, style.escape)
    first = [after.body for each, after in pairwise(instructions) if each.keyword == "FROM"]
    assert first == [label] * len(dockerfile.stages)


def outside_of_uses(text: str, uses: tuple[object, ...]) -> list[str]:
    borders = [0, *(border for use in uses for border in (use.start, use.end)), len(text)]  # type: ignore[attr-defined]
    return [text[start:end] for start, end in zip(borders[::2], borders[1::2], strict=True)]


@settings(deadline=None)
@given(dockerfiles(), styles, st.lists(noise), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_private_part_is_appended(
    made: tuple[list[str], list[tuple[str, str]]], style: Style, extra: list[str], end: str, newline: bool
) -> None:
    text = style.render(made[0])
    public = text if newline else text.removesuffix(style.end)
    source = "quay.io/private/tool:1"
    private = Style(end, style.mark, "\\").render([*extra, f"COPY --from={source} /a /b"]).replace("\\", style.escape)
    joined = combine(public.encode(), private.encode())
    assert [use.reference for use in parse_dockerfile(joined).uses] == [
        *(reference for _, reference in made[1]),
        source,
    ]
    assert joined.startswith(public)


@settings(deadline=None)
@given(st.binary(max_size=30), st.binary(max_size=30))
def test_any_two_files_are_joined_or_refused(public: bytes, private: bytes) -> None:
    try:
        joined = combine(public, private)
    except BadInput as error:
        assert error.where.startswith("Dockerfile")
    else:
        assert joined.encode().startswith(public)


@pytest.mark.parametrize(
    ("written", "rendered"),
    [
        ("# syntax=stranger.example/frontend:1\nFROM a\n", "#\nFROM a\n"),
        ("#!/usr/bin/buildx\n#syntax = stranger.example/frontend\nFROM a\n", "#\n#\nFROM a\n"),
        (
            "\ufeff# syntax=a\r\n# escape=`\r\n\r\n# c\r\nFROM a `\r\n AS b\r\n",
            "# escape=`\n#\n\r\n#\nFROM a `\r\n AS b\r\n",
        ),
        ("\n  # syntax=a\nARG A\n# kept\nFROM a\n", "\n#\nARG A\n# kept\nFROM a\n"),
        ("FROM a\n# syntax=too late\n", "FROM a\n# syntax=too late\n"),
    ],
)
def test_no_dockerfile_chooses_its_frontend(written: str, rendered: str) -> None:
    assert without_directives(written) == rendered
    before, after = parse_dockerfile(written), parse_dockerfile(rendered)
    assert [stage.line for stage in after.stages] == [stage.line for stage in before.stages]
    assert after.escape == before.escape


@settings(deadline=None)
@given(dockerfiles(), styles)
def test_a_dockerfile_without_directives_says_the_same(
    made: tuple[list[str], list[tuple[str, str]]], style: Style
) -> None:
    before = parse_dockerfile(style.render(made[0]))
    after = parse_dockerfile(without_directives(before.text))
    assert (after.stages, after.escape) == (before.stages, before.escape)
    assert [use.reference for use in after.uses] == [use.reference for use in before.uses]
