"""Dockerfiles are put together, pinned and labeled: what was put in is read back, and nothing else is touched."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.catalog.dockerfile import (
    NoSuchStageError,
    combine,
    in_every_stage,
    parse_combined,
    parse_dockerfile,
    pin,
    with_labels,
    without_directives,
)
from aml_images_dagster.catalog.dockerfile.expansion import expand, split_words
from aml_images_dagster.catalog.dockerfile.instructions import read_instructions
from aml_images_dagster.catalog.dockerfile.rendering import quoted
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
ANY_TEXT = st.text(st.characters(exclude_categories=("Cs",)))


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


def test_without_a_private_part_the_text_is_the_file() -> None:
    public = b"\xef\xbb\xbfFROM a\r\nRUN b"
    assert combine(public, None).encode() == public


@pytest.mark.parametrize(
    ("public", "private", "joined"),
    [
        (b"FROM a", b"RUN b\n", "FROM a\nRUN b\n"),
        (b"FROM a\n", b"\xef\xbb\xbfRUN b\n", "FROM a\nRUN b\n"),
        (b"\xef\xbb\xbfFROM a\r\nUSER x", b"RUN b\n", "\ufeffFROM a\r\nUSER x\r\nRUN b\n"),
        (b"FROM a\n", b"", "FROM a\n"),
        (b"FROM a\n# end \\", b"RUN b", "FROM a\n# end \\\nRUN b"),
        (b"FROM a\n", b"RUN <<EOF\nFROM x\nEOF\n", "FROM a\nRUN <<EOF\nFROM x\nEOF\n"),
        (b"FROM a\n", b"RUN x \\\n  FROM b\n", "FROM a\nRUN x \\\n  FROM b\n"),
        (b"FROM a\n", b"# FROM b\n", "FROM a\n# FROM b\n"),
        (b"# escape=`\nFROM a\n", b"# escape=`\nRUN x `\n FROM b", "# escape=`\nFROM a\n# escape=`\nRUN x `\n FROM b"),
        (b"# escape=`\nFROM a\n", b"RUN x `\n FROM b", "# escape=`\nFROM a\nRUN x `\n FROM b"),
    ],
)
def test_joined(public: bytes, private: bytes, joined: str) -> None:
    assert combine(public, private) == joined


@pytest.mark.parametrize(
    ("public", "private", "where", "message"),
    [
        (b"FROM a\n", b"RUN x\n\nfrom b\n", "i/Dockerfile.private:3", "may not contain FROM"),
        (b"FROM a\n", b"RUN x \\\n# c\n y\nFROM b\n", "i/Dockerfile.private:4", "may not contain FROM"),
        (b"FROM a\n", b"# escape=`\nRUN x\n", "i/Dockerfile.private:1", "escape character is `"),
        (b"# escape=`\nFROM a\n", b"# escape=\\\nRUN x\n", "i/Dockerfile.private:1", "escape character is \\"),
        (b"FROM a\nRUN x \\", b"RUN y\n", "i/Dockerfile:2", "ends with the continuation character"),
        (b"FROM a\nRUN x \\\n\n# c\n", b"RUN y\n", "i/Dockerfile:2", "ends with the continuation character"),
        (b"FROM a\n", b"FOO x\n", "i/Dockerfile.private:1", "unknown instruction"),
        (b"FROM a\n", b"RUN <<EOF\n", "i/Dockerfile.private:1", "has no end"),
        (b"FROM a\nRUN <<EOF\n", b"EOF\n", "i/Dockerfile:2", "has no end"),
        (b"FROM a\n", b"RUN \xff\n", "i/Dockerfile.private:1", "UTF-8"),
    ],
)
def test_refused(public: bytes, private: bytes, where: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        combine(public, private, "i/Dockerfile")
    assert message in caught.value.what
    assert caught.value.where == where


@pytest.mark.parametrize("public", [b"FROM a\nRUN b\n", b"FROM a\nRUN b", b"FROM a\r\nRUN b"])
def test_lines_of_the_private_part_are_named_as_the_user_knows_them(public: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        parse_combined(public, b"RUN c\nCOPY --from=$X a b\n", path="i/Dockerfile")
    assert caught.value.where == "i/Dockerfile.private:2"
    with pytest.raises(BadInput) as caught:
        parse_combined(public.replace(b"RUN b", b"COPY --from=$X a b"), b"RUN c\n", path="i/Dockerfile")
    assert caught.value.where == "i/Dockerfile:2"


def test_a_private_part_sees_the_stages_and_is_pinned() -> None:
    dockerfile = parse_combined(b"FROM a AS one\nFROM b\n", b"COPY --from=one x y\nCOPY --from=c:1 x y\n")
    assert [use.reference for use in dockerfile.uses] == ["a", "b", "c:1"]
    assert pin(dockerfile, {"c:1": "c@sha256:" + "0" * 64}).endswith(f"COPY --from=c@sha256:{'0' * 64} x y\n")


STAGES = b"""# escape=`
ARG V=1
FROM a AS Build
RUN make `
 FROM x
# of the next stage
  FROM b AS runtime
COPY --from=build x y
ONBUILD RUN z
FROM runtime AS debug
RUN gdb
"""


@pytest.mark.parametrize(
    ("target", "end", "base"),
    [
        ("build", b"# of the next stage\n", "a"),
        ("BUILD", b"# of the next stage\n", "a"),
        ("runtime", b"ONBUILD RUN z\n", "b"),
        ("debug", b"RUN gdb\n", "b"),
    ],
)
def test_a_target_is_the_last_stage(target: str, end: bytes, base: str) -> None:
    expected = STAGES[: STAGES.index(end) + len(end)].decode()
    assert combine(STAGES, None, target=target) == expected
    dockerfile = parse_combined(STAGES, b"# escape=`\nRUN private\n", target=target)
    assert dockerfile.text == f"{expected}# escape=`\nRUN private\n"
    assert dockerfile.stages[-1].name == target.lower()
    assert dockerfile.base == base


def test_of_two_stages_with_a_name_the_target_is_the_last() -> None:
    assert combine(b"FROM a AS x\nFROM b AS X\nFROM c\n", None, target="x") == "FROM a AS x\nFROM b AS X\n"


@pytest.mark.parametrize(
    ("public", "hint"), [(STAGES, "It has build, runtime, debug."), (b"FROM a\n", "Name one: FROM … AS NAME.")]
)
def test_a_target_that_does_not_exist_is_refused(public: bytes, hint: str) -> None:
    with pytest.raises(NoSuchStageError) as caught:
        combine(public, None, target="run-time")
    assert caught.value.hint == hint
    assert "no stage 'run-time'" in caught.value.what


def test_a_target_takes_no_files_from_below() -> None:
    public = b"FROM a AS other\nCOPY --from=tools x y\nFROM b AS runtime\nCOPY --from=other x y\nFROM c AS tools\n"
    with pytest.raises(BadInput) as caught:
        parse_combined(public, None, target="runtime", path="i/Dockerfile")
    assert caught.value.what == "COPY --from=tools names a stage that is not complete here (below the target)"
    assert caught.value.where == "i/Dockerfile:2"
    unneeded = parse_combined(public.replace(b"=other x", b"=d:1 x"), None, target="runtime")
    assert [use.reference for use in unneeded.uses] == ["a", "b", "d:1"]


@given(ANY_TEXT, st.sampled_from("\\`"))
def test_a_label_is_read_as_it_was_meant(text: str, escape: str) -> None:
    word = quoted(text, escape)
    assert split_words(word, keep_quoting=True, escape=escape) == [word]
    assert expand(word, {}, escape).value == " ".join(text.splitlines())


def test_labels_are_an_instruction_of_the_last_stage() -> None:
    text = "FROM a AS first\nFROM b\nCOPY x /"
    assert with_labels(text, {"one": 'say "1"', "two": "$2"}) == (
        'FROM a AS first\nFROM b\nCOPY x /\nLABEL "one"="say \\"1\\"" "two"="\\$2"\n'
    )
    assert with_labels(text, {}) == text


def test_the_escape_character_of_the_dockerfile_is_used() -> None:
    assert with_labels("# escape=`\nFROM b\n", {"path": "C:\\a `b`"}).endswith('LABEL "path"="C:\\a ``b``"\n')


@pytest.mark.parametrize(
    "end", ["", "\n", "\r\n", " \\", " \\\n\n", " \\\n# the end", " \\\n\n  # one\n# two\n", " \\\n\\\n"]
)
def test_an_instruction_that_goes_on_where_the_file_ends_does_not_take_the_labels_in(end: str) -> None:
    labelled = with_labels(f"FROM b\nRUN true{end}", {"key": "value"})
    assert labelled == 'FROM b\nRUN true\nLABEL "key"="value"\n'


@pytest.mark.parametrize(
    "text",
    [
        "FROM b\nCOPY a.ps1 C:\\\\",
        "FROM b\nRUN <<END\ntrue \\\n# no comment\nEND",
        "# escape=`\nFROM b\nCOPY a.ps1 C:\\",
        "FROM b\nRUN true\n# the end",
    ],
)
def test_labels_change_nothing_in_front_of_them(text: str) -> None:
    assert with_labels(text, {"key": "value"}) == f'{text}\nLABEL "key"="value"\n'
