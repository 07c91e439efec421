"""What COPY and ADD take from the context."""

from __future__ import annotations

import pytest

from aml_images_dagster.catalog.dockerfile import copy_sources, parse_dockerfile

LINUX = "linux/amd64"
FILES = ("Dockerfile", "a.txt", "b.txt", "deep/er/x.py", "deep/y.py", "with blank.txt")


def copied(instructions: str, build_args: dict[str, str] | None = None) -> list[str]:
    dockerfile = parse_dockerfile(f"ARG OUTER=a\nFROM debian:12 AS first\nFROM debian:12\n{instructions}\n", build_args)
    sources = copy_sources(dockerfile, build_args, [LINUX])
    return sorted({file for source in sources for file in source.matches(FILES)})


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ("COPY a.txt b.txt /", ["a.txt", "b.txt"]),
        ("COPY --chown=1:1 ./a.txt /", ["a.txt"]),
        ("ADD /a.txt /", ["a.txt"]),
        ("COPY . /", list(FILES)),
        ("COPY deep /", ["deep/er/x.py", "deep/y.py"]),
        ("COPY deep/ /", ["deep/er/x.py", "deep/y.py"]),
        ("COPY *.txt /", ["a.txt", "b.txt", "with blank.txt"]),
        ("COPY deep/*.py /", ["deep/y.py"]),
        ("COPY [^a].txt /", ["b.txt"]),
        ('COPY ["with blank.txt", "/"]', ["with blank.txt"]),
        ('COPY "a.txt" /', ["a.txt"]),
        ('COPY "with blank.txt" /', []),  # two words, each with half of the quotes
        ("COPY a.txt \\\n  # a comment\n  b.txt /", ["a.txt", "b.txt"]),
        ("ARG NAME=b\nCOPY ${NAME}.txt /", ["b.txt"]),
        ("ARG OUTER\nCOPY $OUTER.txt /", ["a.txt"]),
        ("ENV ONE=a TWO=${ONE}.txt\nCOPY $TWO /", []),  # the base may have a value of ONE
        ("ENV ONE a\nCOPY $ONE.txt /", ["a.txt"]),
        ("COPY $OUTER.txt /", []),
        ("COPY --from=first /a.txt /", []),
        ("COPY --from=busybox a.txt /", []),
        ("ADD https://example.org/a.txt /", []),
        ("COPY ../a.txt /", ["a.txt"]),  # what is above the context is the context
        ("ONBUILD COPY a.txt /", []),
        ("RUN cp a.txt /", []),
        ("RUN --mount=type=bind,source=deep,target=/x ls /x", ["deep/er/x.py", "deep/y.py"]),
        ("RUN --mount=type=secret,id=x --mount=type=bind,from=first,source=deep,target=/x ls", []),
        ("ARG TARGETARCH\nCOPY [b${TARGETARCH#amd64}].txt /", ["b.txt"]),
        ("ENV N=a\nARG N=b\nCOPY $N.txt /", ["b.txt"]),
        ("ARG N=b\nENV N=a\nCOPY $N.txt /", ["a.txt"]),
        ("ONBUILD ENV N=a\nCOPY $N.txt /", []),
        ("ARG N=a\nFROM busybox\nCOPY $N.txt /", []),
        ("COPY --parents deep/**/x.py ./a.txt /", ["a.txt", "deep/er/x.py"]),
        ("COPY --exclude=*.py --chmod=755 --link deep /", ["deep/er/x.py", "deep/y.py"]),
        ("COPY <<a.txt <<b.txt /\nx\na.txt\ny\nb.txt", []),
    ],
)
def test_copied_files(instructions: str, expected: list[str]) -> None:
    assert copied(instructions) == expected


def test_arguments_are_inherited_from_the_stage_that_a_stage_is_from() -> None:
    dockerfile = parse_dockerfile("FROM debian:12 AS one\nARG N=a\nENV M=b\nFROM one\nCOPY $N.txt $M.txt /\n")
    assert [source.pattern for source in copy_sources(dockerfile, None, [LINUX])] == ["a.txt", "b.txt"]


def test_platforms_decide_what_is_copied() -> None:
    dockerfile = parse_dockerfile("FROM debian:12\nARG TARGETARCH\nCOPY tool-${TARGETARCH} /\n")
    both = copy_sources(dockerfile, None, [LINUX, "linux/arm64"])
    assert [source.pattern for source in both] == ["tool-amd64", "tool-arm64"]
    (unknown,) = copy_sources(dockerfile, None, ["windows/amd64"])  # the classic builder predefines none
    assert unknown.pattern is None


def test_platforms_decide_which_stage_is_meant() -> None:
    text = "FROM scratch AS amd64\nENV A=a.txt\nFROM scratch AS arm64\nENV A=b.txt\nFROM $TARGETARCH\nCOPY $A /\n"
    both = copy_sources(parse_dockerfile(text), None, [LINUX, "linux/arm64"])
    assert [source.pattern for source in both] == ["a.txt", "b.txt"]


def test_a_build_argument_wins() -> None:
    assert copied("ARG NAME=b\nCOPY ${NAME}.txt /", {"NAME": "a"}) == ["a.txt"]


def test_what_cannot_be_known() -> None:
    (source,) = copy_sources(parse_dockerfile("FROM debian:12\nARG NAME\nRUN x\nCOPY $NAME /\n"), None, [LINUX])
    assert (source.written, source.pattern, source.keyword, source.line) == ("$NAME", None, "COPY", 4)


def test_backslashes_of_windows() -> None:
    dockerfile = parse_dockerfile("# escape=`\nFROM x\nCOPY deep\\y.py C:/\n")
    (source,) = copy_sources(dockerfile, None, [LINUX])
    assert source.matches(FILES) == ["deep/y.py"]
