"""Dockerfile and Dockerfile.private."""

from __future__ import annotations

import pytest

from aml_images_dagster.catalog.dockerfile import combine, parse_combined, pin
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
