"""The reader against BuildKit's own parser, which the package `dockerfile` binds.

Both split a text into the same instructions, with the same flags and heredocs, or both refuse it. That parser says
nothing of what instructions mean, and is that of BuildKit 0.12: the directive `# check=` is younger.
"""

from __future__ import annotations

import dockerfile
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aml_images_dagster.catalog.dockerfile.instructions import read_directives, read_instructions
from aml_images_dagster.errors import BadInput

REFUSED = "refused"


def by_us(text: str) -> object:
    try:
        escape = read_directives(text, str).get("escape", "\\")
        found = read_instructions(text, str, escape)
    except BadInput:
        return REFUSED
    if not found:
        return REFUSED  # no instruction; said when FROM is looked for
    return [
        (
            "ONBUILD" if each.on_build else each.keyword,
            each.line,
            # The binding leaves out the flags of what stands behind ONBUILD.
            [f"--{flag.name}={flag.value}".removesuffix("=") for flag in each.flags if not each.on_build],
            [] if each.on_build else [heredoc.name for heredoc in each.heredocs],
        )
        for each in found
    ]


def by_buildkit(text: str) -> object:
    try:
        found = dockerfile.parse_string(text)
    except dockerfile.GoParseError:
        return REFUSED
    if any(each.cmd.lower() not in dockerfile.all_cmds() for each in found):
        return REFUSED  # it splits them; which instructions there are is asked later
    return [
        (
            each.cmd.upper(),
            each.start_line,
            [] if each.cmd.upper() == "ONBUILD" else [flag.removesuffix("=") for flag in each.flags],
            [heredoc.name for heredoc in each.heredocs],
        )
        for each in found
    ]


WORDS = st.sampled_from(
    [
        *("a", "/x", "k=v", "$V", "${V:-d}", "'q w'", '"q w"', "k='q w'", 'k="'),
        *("\\", "\\\\", "`", "#", "&&", "--", "="),
    ]
)
HEREDOCS = st.sampled_from(["<<E", "<<-E", "<<'E'", '<<"E"', "3<<E", "<<E <<F", "cat<<E", "<<", "<<E>x"])
FLAGS = st.sampled_from(["--from=a", "--mount=type=cache,target=/x", "--link", "--chown=1:1", "--exclude=*.md"])
KEYWORDS = st.sampled_from(
    ["FROM", "RUN", "COPY", "ADD", "ARG", "ENV", "CMD", "LABEL", "run", "Copy", "ONBUILD RUN", "ONBUILD COPY", "EXPOSE"]
)
ENDS = st.sampled_from(["", "", "", " \\", "\\", " \\ ", " `", "\\\\", " # c"])
INSTRUCTIONS = st.builds(
    lambda keyword, flags, words, heredoc, end: " ".join([keyword, *flags, *words, *heredoc]) + end,
    KEYWORDS,
    st.lists(FLAGS, max_size=2),
    st.lists(WORDS, min_size=1, max_size=4),
    st.lists(HEREDOCS, max_size=1),
    ENDS,
)
OTHERS = st.sampled_from(["", "  ", "# comment", "  # indented", "E", "\tE", "F", " E", "&& x", " && y \\", "\t"])
DIRECTIVES = st.sampled_from(["# syntax=docker/dockerfile:1", "# escape=`", "# escape=\\", "#x"])
TEXTS = st.builds(
    lambda directives, lines, end: end.join([*directives, "FROM a", *lines]),
    st.lists(DIRECTIVES, max_size=2),
    st.lists(st.one_of(INSTRUCTIONS, INSTRUCTIONS, OTHERS), max_size=8),
    st.sampled_from(["\n", "\n", "\r\n"]),
)


@given(TEXTS)
@example("FROM a\nRUN <<E\nE")
@example("FROM a\nRUN a \\\n# comment\n\n b")
@example("FROM a\nCOPY <<E <<F /x/\n1\nE\n2\nF\nRUN x")
@example('FROM a\nRUN ["a", "<<E"]\nRUN x')
@example("FROM a\nENV \\ \\")
@example("# escape=`\nFROM a\nRUN x `\n y\nRUN z \\\nRUN w")
def test_both_split_a_text_alike(text: str) -> None:
    assert by_us(text) == by_buildkit(text), text


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nRUN <<E\n",
        "FROM a\nNOPE x",
        "# only a comment",
        "",
        "# escape=x\nFROM a",
        "# escape=`\n# escape=`\nFROM a",
    ],
)
def test_both_refuse(text: str) -> None:
    assert (by_us(text), by_buildkit(text)) == (REFUSED, REFUSED)
