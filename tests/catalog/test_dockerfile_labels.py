"""Labels in a Dockerfile: one instruction of the last stage, read as they were meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.catalog.dockerfile import with_labels
from aml_images_dagster.catalog.dockerfile.expansion import expand, split_words
from aml_images_dagster.catalog.dockerfile.pinning import quoted

ANY_TEXT = st.text(st.characters(exclude_categories=("Cs",)))


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


@pytest.mark.parametrize("end", ["", "\n", "\r\n", " \\", " \\\n\n"])
def test_an_instruction_that_goes_on_where_the_file_ends_does_not_take_the_labels_in(end: str) -> None:
    labelled = with_labels(f"FROM b\nRUN true{end}", {"key": "value"})
    assert labelled == 'FROM b\nRUN true\nLABEL "key"="value"\n'
