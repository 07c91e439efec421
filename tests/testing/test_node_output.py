"""Cutting output into lines, and keeping the last of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.testing.watch import KeptOutput, lines
from aml_images_dagster.text import printable


@settings(deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n", codec="utf-8"))), st.data())
def test_lines_do_not_depend_on_where_the_stream_is_cut(texts, data):
    stream = "".join(f"{text}\n" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert list(lines(chunks)) == [printable(text) for text in texts]


def test_last_line_without_an_end():
    assert list(lines([b"one\ntw", b"o"])) == ["one", "two"]


def test_windows_line_ends_and_progress_bars():
    assert list(lines([b"one\r\n10%\r20%\r100%\r\n"])) == ["one", "100%"]


def test_not_utf_8():
    assert list(lines([b"caf\xe9\n"])) == ["caf\N{REPLACEMENT CHARACTER}"]


def test_line_without_an_end_is_cut():
    found = list(lines(b"x" * 1000 for _ in range(1000)))
    assert "".join(found) == "x" * 1_000_000
    assert max(map(len, found)) <= 64 * 1024


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab", max_size=20), max_size=100), st.integers(0, 200))
def test_kept_is_the_end_and_says_what_is_missing(texts, limit):
    kept = KeptOutput(limit)
    for text in texts:
        kept.add(text)
    found = kept.text().splitlines()
    whole = sum(len(text) + 1 for text in texts) <= limit
    if whole:
        assert found == texts
    else:
        head, *tail = found
        missing = int(head.split()[0].lstrip("["))
        assert tail == texts[missing:]
        assert sum(len(text) + 1 for text in tail) <= limit
