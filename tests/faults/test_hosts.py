"""Two hosts build, release and clean up at once, and one is killed: two rounds of what `host_rounds` plays."""

from __future__ import annotations

import pytest

from tests.faults.host_rounds import rounds

pytestmark = [pytest.mark.engine, pytest.mark.faults]


def test_what_a_killed_host_leaves_is_cleaned_up_by_the_other_which_goes_on() -> None:
    figures = rounds(2, 7)
    print(figures)
    assert figures.wrong == []
