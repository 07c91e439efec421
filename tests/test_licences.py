"""Names of licences become SPDX expressions, or references to what SPDX does not list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.licences import all_of, expression, is_valid, matching, references


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT", "MIT"),
        ("mit and (bsd-3-clause)", "MIT AND BSD-3-Clause"),
        ("Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("Expat", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPLv2+", "LGPL-2.0-or-later"),
        ("GPL-3", "GPL-3.0-only"),
        ("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
        ("GPL-2+ or Artistic, and Expat", "(GPL-2.0-or-later OR Artistic-1.0-Perl) AND MIT"),
        ("GPLv2+ and LGPLv2+ and BSD", "GPL-2.0-or-later AND LGPL-2.0-or-later AND LicenseRef-BSD"),
        ("GPL-2+ with OpenSSL exception", "LicenseRef-GPL-2-with-OpenSSL-exception"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("BSD", "LicenseRef-BSD"),
        ("LicenseRef-Proprietary", "LicenseRef-Proprietary"),
        ("MIT OR LicenseRef-x", "MIT OR LicenseRef-x"),
        ("(((", "LicenseRef-unnamed"),
        ("", ""),
    ],
)
def test_names_of_licences(text, expected):
    assert expression(text) == expected


@given(st.text(max_size=80))
def test_whatever_is_written_becomes_a_valid_expression(text):
    found = expression(text)
    assert found == "" or is_valid(found)
    assert found or not any(character.isalnum() for character in text)


@given(
    st.lists(
        st.sampled_from(["MIT", "GPL-2+ or Artistic", "A and B", "X or Y, and Z", "Apache-2.0 WITH LLVM-exception"])
    )
)
def test_several_licences_become_one_valid_expression(texts):
    found = all_of(map(expression, texts))
    assert is_valid(found) == bool(texts)


@pytest.mark.parametrize("text", ["GPL-2+", "BSD", "MIT BSD", "LicenseRef-", "", "MIT AND"])
def test_what_is_no_expression_is_not_valid(text):
    assert not is_valid(text)


def test_references_in_an_expression():
    assert references("MIT AND (LicenseRef-a.b OR LicenseRef-c-1)") == ["LicenseRef-a.b", "LicenseRef-c-1"]


@pytest.mark.parametrize(
    ("text", "patterns", "found"),
    [
        ("AGPL-3.0-only", ["AGPL-3.0-only"], ("AGPL-3.0-only",)),
        ("MIT AND (AGPL-3.0-only AND GPL-3.0-only)", ["agpl-*", "GPL-3.0-only"], ("AGPL-3.0-only", "GPL-3.0-only")),
        ("MIT OR AGPL-3.0-only", ["AGPL-*"], ()),
        ("GPL-3.0-only OR AGPL-3.0-only", ["*GPL-*"], ("AGPL-3.0-only", "GPL-3.0-only")),
        ("GPL-2.0-only WITH GCC-exception-3.1", ["GPL-2.0-only"], ()),
        ("GPL-2.0-only WITH GCC-exception-3.1", ["GPL-2.0-only*"], ("GPL-2.0-only WITH GCC-exception-3.1",)),
        ("LicenseRef-Proprietary", ["LicenseRef-*"], ("LicenseRef-Proprietary",)),
        ("", ["NOASSERTION"], ("NOASSERTION",)),
        ("", ["MIT"], ()),
        ("MIT", [], ()),
    ],
)
def test_licences_that_fit_a_pattern_and_cannot_be_avoided(text, patterns, found):
    assert matching(text, patterns) == found
