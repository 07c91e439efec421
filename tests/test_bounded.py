"""What others send, up to a limit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.bounded import Lines, TooLong, beginning, joined, up_to


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20)), st.integers(0, 100))
def test_pieces_are_joined_up_to_the_limit(pieces, limit):
    whole = b"".join(pieces)
    assert beginning(pieces, limit) == whole[:limit]
    if len(whole) <= limit:
        assert joined(pieces, limit) == whole
    else:
        with pytest.raises(TooLong):
            joined(pieces, limit)


@pytest.mark.parametrize("read", [beginning, joined])
def test_no_more_is_asked_for_than_is_wanted(read):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield b"x" * 10

    if read is joined:
        with pytest.raises(TooLong, match="more than 25 bytes"):
            read(endless(), 25)
    else:
        assert read(endless(), 25) == b"x" * 25
    assert len(asked) == 3


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab\n", max_size=30)), st.integers(1, 7))
def test_lines_have_a_longest_length_and_lose_nothing(pieces, longest):
    cutter = Lines(longest)
    found = [line for piece in pieces for line in cutter.take(piece)] + list(cutter.rest())
    assert all(len(line) <= longest for line in found)
    assert "".join(found) == "".join(pieces).replace("\n", "")
    expected = []
    for line in "".join(pieces).split("\n"):
        expected += [line[at : at + longest] for at in range(0, len(line), longest)] or [""]
    if expected[-1] == "":
        expected.pop()
    assert found == expected


def test_characters_that_are_cut_in_two():
    cutter = Lines()
    assert [line for byte in "é€\n".encode() for line in cutter.take(bytes([byte]))] == ["é€"]
    assert [*cutter.take(b"\xe2"), *cutter.rest()] == ["\N{REPLACEMENT CHARACTER}"]


def test_of_a_line_without_end_little_is_held():
    cutter = Lines()
    found = 0
    for _ in range(1000):
        found += sum(len(line) for line in cutter.take("x" * 50_000))
        assert len(cutter._line) <= 64 * 1024
    assert found > 49_900_000


def test_a_log_says_once_that_it_is_cut():
    seen = []
    log = up_to(10, seen.append)
    for line in ("abc", "defg", "h", "i", ""):
        log(line)
    assert seen == ["abc", "defg", "[the log has more than 10 characters; the rest is left out]"]
