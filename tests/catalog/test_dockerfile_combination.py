"""Dockerfile and Dockerfile.private."""

from __future__ import annotations

import pytest

from aml_images_dagster.catalog.dockerfile import NoSuchStageError, combine, parse_combined, pin
from aml_images_dagster.errors import BadInput


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
