"""Numbers of things; text of others as code, read by a parser of CommonMark."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aml_images_dagster.text import code, code_block, counted

TEXT = st.text("ab`~ \n#*_[]()<>!|\\@", max_size=40)


@given(TEXT)
@example("`x` [click](http://evil)")
def test_a_line_is_nothing_but_code(text: str) -> None:
    shown = " ".join(text.split())
    tokens = MarkdownIt().parseInline(f"see {code(text)} there")[0].children or []
    if shown:
        assert [(token.type, token.content) for token in tokens] == [
            ("text", "see "),
            ("code_inline", shown),
            ("text", " there"),
        ]


@given(TEXT.filter(lambda text: "\r" not in text))
@example("```\n[click](http://evil)\n~~~")
def test_a_block_is_nothing_but_code(text: str) -> None:
    (token,) = MarkdownIt().parse(code_block(text, "dockerfile"))
    assert (token.type, token.info, token.content) == ("fence", "dockerfile", f"{text}\n")


def test_one_thing_and_others() -> None:
    assert [counted(number, "error") for number in (0, 1, 2)] == ["0 errors", "1 error", "2 errors"]
