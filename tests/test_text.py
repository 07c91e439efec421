"""Numbers of things; text of others made printable, and as code, read by a parser of CommonMark."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aml_images_dagster.text import code, code_block, counted, first_of, printable, printable_line, size_in_words

BIDI = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
TEXT = st.text("ab`~ \n#*_[]()<>!|\\@", max_size=40)


@settings(deadline=None)
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


@settings(deadline=None)
@given(TEXT.filter(lambda text: "\r" not in text))
@example("```\n[click](http://evil)\n~~~")
def test_a_block_is_nothing_but_code(text: str) -> None:
    (token,) = MarkdownIt().parse(code_block(text, "dockerfile"))
    assert (token.type, token.info, token.content) == ("fence", "dockerfile", f"{text}\n")


def test_one_thing_and_others() -> None:
    assert [counted(number, "error") for number in (0, 1, 2)] == ["0 errors", "1 error", "2 errors"]


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (32_040, "32.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (4_200_000, "4.2 MB"),
        (812_400_000, "812 MB"),
        (999_600_000, "1.00 GB"),
        (3_120_000_000, "3.12 GB"),
    ],
)
def test_sizes_have_a_unit_that_shows_them(size: int, said: str) -> None:
    assert size_in_words(size) == said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[01;31m\x1b[Kerror:\x1b[m\x1b[K x", "error: x"),
        ("\x1b[2J\x1b]0;t\x07", r"\x1b[2J\x1b]0;t\x07"),
        ("\x1b\x1b[m[2J", r"\x1b[2J"),
        ("one\r\n\ttwo\rthree\n", "one\n\ttwo\\x0dthree\n"),
        ("\u202egnp\u2069 \u200b\ufeff\u2028\U000e0041", r"\u202egnp\u2069 \u200b\ufeff\u2028\U000e0041"),
        ("caf\udce9 \ud800", r"caf\xe9 \ud800"),
        ("äß 图像 한 עברית 👩\u200d🚀 \xa0 ✅", "äß 图像 한 עברית 👩\u200d🚀 \xa0 ✅"),
    ],
)
def test_what_is_not_to_be_seen_is_seen(text: str, shown: str) -> None:
    assert printable(text) == shown


@settings(deadline=None)
@given(st.text())
def test_nothing_that_does_something_is_left(text: str) -> None:
    shown = printable(text)
    left = {char for char in shown if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")}
    assert left <= {"\n", "\t"}
    assert not {char for char in shown if unicodedata.bidirectional(char) in BIDI or char in "\u200e\u200f\u061c"}
    assert printable(shown) == shown
    assert len(printable_line(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("texts", "separator", "shown"),
    [
        (["a", "b"], ", ", "a, b"),
        (["a", "b", "c", "d"], ", ", "a, b and 2 more"),
        (["a", "b", "c"], "; ", "a; b; and 1 more"),
        ([], ", ", ""),
    ],
)
def test_of_many_texts_the_first_are_shown(texts, separator, shown):
    assert first_of(texts, 2, separator) == shown
