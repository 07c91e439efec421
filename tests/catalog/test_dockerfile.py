"""What the Dockerfile reader makes of the traps of the format."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.catalog.builder_features import HEREDOCS
from aml_images_dagster.catalog.dockerfile import parse_combined, parse_dockerfile, pin
from aml_images_dagster.errors import BadInput


def uses(text: str | bytes, **build_args: str) -> list[tuple[str, str]]:
    return [(use.kind, use.reference) for use in parse_dockerfile(text, build_args).uses]


def bases(text: str | bytes, **build_args: str) -> list[str]:
    return [reference for _, reference in uses(text, **build_args)]


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("FROM debian:12", "debian:12"),
        ("from debian:12 as x", "debian:12"),
        ("  \tFROM\tdebian:12  ", "debian:12"),
        ("\ufeffFROM debian:12\n", "debian:12"),
        ("FROM debian:12\r\nRUN a \\\r\n  b\r\n", "debian:12"),
        ("\\\n FROM debian:12", "debian:12"),
        ("FROM \\\n# a comment \\\n\n  debian:12\n", "debian:12"),
        ("FROM deb\\\nian:12\n", "debian:12"),
        ('FROM "debian:12"', "debian:12"),
        ("# escape=`\nFROM debian:12 `\n AS x", "debian:12"),
        ("\ufeff# escape = ` \r\nFROM debian:12 `\r\n AS x\r\n", "debian:12"),
        ("# syntax=docker/dockerfile:1\n#  ESCAPE=`\nFROM debian:12 `\n AS x", "debian:12"),
        ("# a comment ends the directives\n# escape=`\nFROM debian:12 \\\n AS x", "debian:12"),
        ("\n# escape=`\nFROM debian:12 \\\n AS x", "debian:12"),
        ("# unknown=1\n# escape=`\nFROM debian:12 \\\n AS x", "debian:12"),
        ("# escape=`\nARG A=deb`ian\nFROM $A:12", "debian:12"),
        ("FROM debian:12\nRUN a \\", "debian:12"),
        ("FROM debian:12\nRUN a && \\\n  # FROM x\n\n  FROM=y b", "debian:12"),
        ("ARG B=debian:12\nFROM $B", "debian:12"),
        ("ARG B='debian:12'\nARG C=\"$B\"\nFROM ${C}", "debian:12"),
        ("ARG A=debian B=12\nFROM $A:$B", "debian:12"),
        ("ARG A=deb\nARG A=${A}ian\nFROM $A:12", "debian:12"),
        ("ARG V\nFROM debian:${V:-12}", "debian:12"),
        ("ARG V=\nFROM debian:${V:-12}", "debian:12"),
        ("ARG V=\nFROM debian:${V-0}12", "debian:12"),
        ("FROM debian:${V-12}", "debian:12"),
        ("FROM debian:${V:-${W:-${X:-12}}}", "debian:12"),
        ("ARG V=1\nFROM debian:${V:+12}${W:+no}${W+no}", "debian:12"),
        ("ARG V=12.5.1\nFROM debian:${V%%.*}", "debian:12"),
        ("ARG V=v12\nFROM debian:${V#v}", "debian:12"),
        ("ARG V=a12.b12\nFROM debian:${V##*b}", "debian:12"),
        ("ARG V=1.2.3\nFROM debian:${V#*.}", "debian:2.3"),
        ("ARG V=12-a-b\nFROM debian:${V%-*}", "debian:12-a"),
        ("ARG V=1_2_3\nFROM debian:${V/_/}", "debian:12_3"),
        ("ARG V=1_2_3\nFROM debian:${V//_/-}", "debian:1-2-3"),
        ("ARG V=12\nFROM debian:${V:?needed}", "debian:12"),
        ("FROM debian:12$NOPE", "debian:12"),
        ("FROM debian:12$1", "debian:12"),
        ("FROM debian:$TARGETARCH", "debian:amd64"),
        ("FROM --platform=$BUILDPLATFORM debian:12", "debian:12"),
        ("ARG FROM=debian:12\nFROM ${FROM} AS from", "debian:12"),
    ],
)
def test_base(text: str, base: str) -> None:
    assert uses(text) == [("from", base)]
    assert uses(text.encode()) == [("from", base)]


def test_build_args_override_declared_defaults_only() -> None:
    text = "ARG OWNER=jupyter\nFROM quay.io/$OWNER/base$SUFFIX"
    assert bases(text, OWNER="mine", SUFFIX="-x") == ["quay.io/mine/base"]
    assert bases("ARG A\nFROM $A", A="debian") == ["debian"]
    assert bases("ARG A=$B\nARG B\nFROM ${A:-none}", B="debian") == ["none"]


def test_an_arg_inside_a_stage_is_not_seen_by_from() -> None:
    with pytest.raises(BadInput, match="ARG B has no value"):
        parse_dockerfile("FROM debian\nARG B=debian\nFROM $B")


def test_args_of_a_chain_of_images() -> None:
    text = """\
        ARG REGISTRY=quay.io
        ARG OWNER=jupyter
        ARG BASE_IMAGE=$REGISTRY/$OWNER/base-notebook
        FROM $BASE_IMAGE
        """
    assert bases(textwrap.dedent(text)) == ["quay.io/jupyter/base-notebook"]
    assert bases(textwrap.dedent(text), REGISTRY="127.0.0.1:5000") == ["127.0.0.1:5000/jupyter/base-notebook"]


@pytest.mark.parametrize(
    ("rest", "external"),
    [
        ("COPY --from=build /a /b", []),
        ("COPY --from=BUILD /a /b", []),
        ("COPY --from=0 /a /b", []),
        ("COPY --from=scratch /a /b", []),
        ("COPY --from=busybox:1 /a /b", ["busybox:1"]),
        ("copy --chown=1:1 --from=busybox:1 --link /a /b", ["busybox:1"]),
        ('COPY --from="busybox:1" /a /b', ["busybox:1"]),
        ("COPY \\\n # why\n --from=busybox:1 \\\n\n /a /b", ["busybox:1"]),
        ("COPY --from=busy\\\nbox:1 /a /b", ["busybox:1"]),
        ("COPY /a --from=busybox:1 /b", []),
        ('COPY --chown="a b" --from=busybox:1 /a /b', ["busybox:1"]),
        ("COPY -- --from=busybox:1 /b", []),
        ('COPY ["--from=busybox:1", "/b"]', []),
        ("RUN echo --mount=from=busybox:1", []),
        ("RUN --mount=from=busybox:1,target=/a ls", ["busybox:1"]),
        ("RUN --mount=type=bind,target=/a,FROM=busybox:1 ls", ["busybox:1"]),
        ('RUN --mount="type=bind,from=busybox:1,target=/a" ls', ["busybox:1"]),
        ("RUN --mount='type=bind,\"from=busybox:1\",target=/a' ls", ["busybox:1"]),
        ("RUN --mount=type=cache,target=/a --mount=from=build,target=/b ls", []),
        ("RUN --mount=from=a:1,target=/a --mount=from=b:1,target=/b ls", ["a:1", "b:1"]),
        ("ONBUILD COPY --from=busybox:1 /a /b", ["busybox:1"]),
        ("ONBUILD COPY --from=builder /a /b", []),
        ("ONBUILD COPY --from=3 /a /b", []),
        ("ONBUILD RUN --mount=from=quay.io/x/y,target=/a ls", ["quay.io/x/y"]),
        ("FROM build", []),
        ("FROM build AS Again\nFROM again\nCOPY --from=AGAIN /a /b", []),
        ("FROM scratch\nCOPY --from=1 /a /b", []),
        ("# COPY --from=busybox:1 /a /b", []),
    ],
)
def test_images_of_later_instructions(rest: str, external: list[str]) -> None:
    text = f"FROM first AS build\nFROM second\n{rest}\n"
    assert bases(text) == ["first", "second", *external]


def test_a_name_defined_later_is_an_image_for_from() -> None:
    assert bases("FROM two AS one\nFROM debian AS two") == ["two", "debian"]


def test_a_stage_named_like_its_own_base() -> None:
    assert bases("FROM debian AS debian\nFROM debian\nCOPY --from=debian /a /b") == ["debian"]


def test_a_doubled_escape_character_continues_nothing() -> None:
    assert bases("FROM one\nRUN echo \\\\\nFROM two") == ["one", "two"]
    assert bases("FROM one\nRUN echo \\\nFROM two") == ["one"]


def test_a_name_given_twice_is_the_nearest_stage() -> None:
    assert parse_dockerfile("FROM one AS x\nFROM two AS x\nFROM x").base == "two"


def test_stages() -> None:
    dockerfile = parse_dockerfile(
        "ARG A=1\nFROM --platform=linux/arm64 one AS First\n\nFROM first AS second\nFROM scratch\nFROM second"
    )
    assert [(stage.name, stage.base, stage.parent, stage.line) for stage in dockerfile.stages] == [
        ("first", "one", None, 2),
        ("second", "first", 0, 4),
        ("", "scratch", None, 5),
        ("", "second", 1, 6),
    ]
    assert [stage.index for stage in dockerfile.final_chain] == [3, 1, 0]
    assert dockerfile.base == "one"
    assert dockerfile.platform == "linux/arm64"


def test_platform_of_the_target() -> None:
    dockerfile = parse_dockerfile(
        "FROM --platform=$TARGETPLATFORM debian:$TARGETARCH$TARGETVARIANT", platform="linux/arm/v7"
    )
    assert (dockerfile.platform, dockerfile.base) == ("linux/arm/v7", "debian:armv7")
    assert parse_dockerfile("FROM debian").platform == ""


@pytest.mark.parametrize(
    "heredoc",
    [
        "RUN <<EOF\nFROM no\nEOF",
        "RUN cat <<EOF | sh && \\\n  ls\nFROM no\nEOF",
        "RUN <<-EOF\n\tFROM no\n\tEOF",
        "RUN <<'EOF'\nFROM no\n$EOF\nEOF",
        'RUN <<"EOF"\nFROM no\nEOF',
        "RUN cat << EOF\nFROM no\nEOF",
        "RUN 3<<EOF cat <&3\nFROM no\nEOF",
        "COPY <<a <<b /to/\nFROM no\na\nFROM no\nb",
        "ADD <<a /to\nFROM no\\\na",
        "ONBUILD RUN <<EOF\nFROM no\nEOF",
        "RUN --mount=type=cache,target=/a <<EOF\nFROM no\nEOF",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_from_in_a_heredoc(heredoc: str, end: str) -> None:
    text = f"FROM one\n{heredoc}\nCOPY --from=two /a /b\n".replace("\n", end)
    dockerfile = parse_dockerfile(text)
    assert [use.reference for use in dockerfile.uses] == ["one", "two"]
    assert HEREDOCS in {use.feature for use in dockerfile.needs}


@pytest.mark.parametrize(
    "run",
    [
        "RUN x=$((1<<2))",
        "RUN x=$((1 << 2))",
        "RUN cat<<EOF",
        "RUN cat <<<word",
        'RUN echo "a <<EOF"',
        "RUN echo 'a <<EOF'",
        "RUN echo don't <<EOF",
        "RUN echo a \\<<EOF",
        'RUN ["cat", "<<EOF"]',
        "CMD cat <<EOF",
        "ENV A <<EOF",
        "# <<EOF",
    ],
)
def test_no_heredoc(run: str) -> None:
    dockerfile = parse_dockerfile(f"FROM one\n{run}\nFROM two\n")
    assert [use.reference for use in dockerfile.uses] == ["one", "two"]
    assert not dockerfile.needs


def needs(text: str, **build_args: str) -> list[tuple[int, str]]:
    return [(use.line, use.written) for use in parse_dockerfile(text, build_args).needs]


def test_what_not_every_builder_builds() -> None:
    text = """\
        FROM --platform=linux/amd64 one
        RUN --mount=type=secret,id=a,env=TOKEN --network=none ls
        COPY --chown=1 --chmod=755 --link a b
        ADD --checksum=sha256:0 https://host/a b
        HEALTHCHECK --interval=5s CMD ls
        RUN <<EOF
        EOF
        """
    assert needs(textwrap.dedent(text)) == [
        (2, "RUN --mount"),
        (2, "RUN --network"),
        (2, "RUN --mount=…,env=TOKEN"),
        (3, "COPY --chmod"),
        (3, "COPY --link"),
        (4, "ADD --checksum"),
        (6, "RUN <<EOF"),
    ]


def test_platform_args_are_not_predefined_by_every_builder() -> None:
    text = "ARG A=$TARGETARCH\nARG TARGETOS=linux\nARG TARGETPLATFORM\n"
    text += "FROM --platform=$BUILDPLATFORM a:$A$TARGETOS\nFROM $TARGETPLATFORM"
    dockerfile = parse_dockerfile(text, {"TARGETPLATFORM": "b"})
    assert [use.reference for use in dockerfile.uses] == ["a:amd64linux", "b"]
    assert needs(text, TARGETPLATFORM="b") == [
        (1, "predefined ARG TARGETARCH"),
        (4, "predefined ARG BUILDPLATFORM"),
    ]


def test_lines_and_spans() -> None:
    text = "\ufeff# c\nARG B=two\nFROM one\nFROM \\\n  ${B} \\\n AS x\nRUN \\\n --mount=from=three,target=/a ls"
    text = text.replace("\n", "\r\n")
    dockerfile = parse_dockerfile(text)
    assert [(use.line, use.reference, text[use.start : use.end]) for use in dockerfile.uses] == [
        (3, "one", "one"),
        (5, "two", "${B}"),
        (8, "three", "three"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "no FROM"),
        ("# only\n", 1, "no FROM"),
        ("ARG A=1\n", 1, "no FROM"),
        ("RUN ls\nFROM a\n", 1, "RUN is before the first FROM"),
        ("FROM\n", 1, "FROM takes"),
        ("FROM a b\n", 1, "FROM takes"),
        ("FROM a AS b c\n", 1, "FROM takes"),
        ("FROM a AS 1b\n", 1, "no name for a stage"),
        ("\nFROM $A\n", 2, "ARG A has no value"),
        ("ARG A\nARG B\nFROM $A$B\n", 3, "ARG A, ARG B have no value"),
        ("ARG A\nFROM debian:$A\n", 2, "ARG A has no value"),
        ("FROM ${A:?say-which}\n", 1, "say-which"),
        ("FROM ${A\n", 1, "no known form"),
        ("FROM ${}\n", 1, "bad substitution"),
        ("FROM ${A^^}\n", 1, "no known form"),
        ("FROM 'a\n", 1, "not closed"),
        ('ARG A="a\nFROM a\n', 1, "not closed"),
        ("ARG\nFROM a\n", 1, "ARG takes"),
        ("ARG =1\nFROM a\n", 1, "ARG takes"),
        ("FROM --platform=$NO a\n", 1, "ARG NO has no value"),
        ("FROM a\\$b\n", 1, "not an image reference"),
        ("FROM a\nFOO b\n", 2, "unknown instruction 'FOO'"),
        ("FROM a\nRUN b &&\n  apt-get install\n", 3, "unknown instruction 'apt-get'"),
        ("FROM a\nONBUILD FROM b\n", 2, "ONBUILD cannot be followed by 'FROM'"),
        ("FROM a\nONBUILD\n", 2, "ONBUILD cannot be followed by"),
        ("FROM a\nRUN <<EOF\nb\n", 2, "<<EOF has no end"),
        ("FROM a\nCOPY --from=$A b c\n", 2, "variables are not expanded"),
        ("FROM a\nRUN --mount=from=${A},target=/b ls\n", 2, "variables are not expanded"),
        ("FROM a\nCOPY --from=0 b c\n", 2, "not complete here (line 1)"),
        ("FROM a\nFROM b\nCOPY --from=2 b c\n", 3, "names no stage"),
        ("FROM a\nCOPY --from=-1 b c\n", 2, "names no stage"),
        ("FROM a AS b\nFROM B\n", 2, "not an image reference"),
        ("FROM a AS b\nCOPY --from=c d e\nFROM a AS c\nCOPY --from=b d e\nFROM a\n", 2, "from each other"),
        ("FROM --platform=nonsense a\n", 1, "no platform"),
        ("ARG A=debian:12\nARG A\nFROM $A\n", 3, "ARG A has no value"),
        ("FROM\u00a0a\n", 1, "no-break space (U+00A0) stands in"),
        ("FROM a\nRUN b \\\u00a0\n  c\n", 2, "no-break space (U+00A0) stands behind the continuation"),
        ("FROM a\nRUN\u200bb\n", 2, "zero width space (U+200B) stands in"),
        ("FROM a\n# " + "x" * 65_534 + "\n", 2, "more than 65,535 bytes"),
        ("FROM a\nONBUILD --x RUN y\n", 2, "ONBUILD has no flag --x"),
        ("FROM a AS b\nCOPY --from=b c d\n", 2, "not complete here"),
        ("FROM a AS b\nCOPY --from=c d e\nFROM b AS C\n", 2, "not complete here (line 3)"),
        ("FROM a\nCOPY --from=b: c d\n", 2, "not an image reference"),
        ('FROM a\nCOPY --from="b":1 c d\n', 2, "quote the whole"),
        ("FROM a\nRUN --mount=type=tmpfs,from=b,target=/c ls\n", 2, "takes no from=b"),
        ("# escape=x\nFROM a\n", 1, "escape character is 'x'"),
        ("# escape=`\n# escape=`\nFROM a\n", 2, "given twice"),
        ("FROM " + "${A:-" * 5000, 1, "nested too deeply"),
    ],
)
def test_what_the_builder_would_refuse(text: str, line: int, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_dockerfile(text, path="base/x/Dockerfile")
    assert message in caught.value.what
    assert caught.value.where == f"base/x/Dockerfile:{line}"


def test_not_utf8() -> None:
    with pytest.raises(BadInput, match="UTF-8") as caught:
        parse_dockerfile(b"FROM a\n# caf\xe9\n")
    assert caught.value.where == "Dockerfile:2"


FRAGMENTS = st.sampled_from(
    [
        "FROM ",
        "ARG ",
        "RUN ",
        "COPY ",
        "ONBUILD ",
        "AS ",
        "--from=",
        "--mount=",
        "--platform=",
        "from=",
        "a",
        "b:1",
        "A",
        "=",
        "$",
        "${",
        "}",
        ":-",
        ":+",
        "#",
        "%",
        "/",
        "'",
        '"',
        "\\",
        "`",
        "<<",
        "-",
        "EOF",
        "\n",
        "\r\n",
        " ",
        "\t",
        ",",
        "# escape=`\n",
        "\ufeff",
        "[",
        "]",
        "0",
        "*",
        "?",
        "\x00",
        "\x1c",
        "\u2028",
        "FROM a\n",
        "RUN <<EOF\n",
    ]
)


@settings(deadline=None)
@given(st.one_of(st.lists(FRAGMENTS, max_size=40).map("".join), st.text()))
def test_any_text_is_read_or_refused_with_a_message(text: str) -> None:
    try:
        dockerfile = parse_dockerfile(text, {"A": "*a?"})
    except BadInput as error:
        assert error.where.startswith("Dockerfile:")
        assert 1 <= int(error.where.partition(":")[2]) <= text.count("\n") + 1
    else:
        assert all(0 <= use.start < use.end <= len(text) for use in dockerfile.uses)


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_read_or_refused_with_a_message(content: bytes) -> None:
    try:
        parse_dockerfile(content)
    except BadInput as error:
        assert error.where.startswith("Dockerfile:")


def test_templates_of_tags() -> None:
    text = "ARG R=a.example\nFROM $R/x:{{latest-image-tag}} AS one\n"
    text += "FROM $R/y:{{latest-image-tag:b\\.\\d{6}.*}}\nFROM one\n"
    dockerfile = parse_dockerfile(text)
    references = [use.reference for use in dockerfile.uses]
    assert references == ["a.example/x:{{latest-image-tag}}", r"a.example/y:{{latest-image-tag:b\.\d{6}.*}}"]
    pinned = pin(dockerfile, dict.fromkeys(references, "a.example/z@sha256:0"))
    assert pinned == "ARG R=a.example\nFROM a.example/z@sha256:0 AS one\nFROM a.example/z@sha256:0\nFROM one\n"


def test_templates_of_other_forms() -> None:
    dockerfile = parse_combined(b"FROM a.example/x:@NEWEST@\n", None, template_tags=("@NEWEST@",))
    assert dockerfile.base == "a.example/x:{{latest-image-tag}}"
    with pytest.raises(BadInput, match="not an image reference"):
        parse_dockerfile("FROM a.example/x:@NEWEST@\n")
