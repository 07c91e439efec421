"""Several processes change production at once, and are killed: a few rounds of what `production_rounds` plays."""

from __future__ import annotations

import pytest

from tests.faults.production_rounds import rounds

pytestmark = [pytest.mark.engine, pytest.mark.faults]


@pytest.mark.parametrize("store", ["local", "blob"])
def test_whoever_is_killed_production_stays_right(store: str) -> None:
    wrong, figures = rounds(store, 3, 7)
    print(figures)
    assert wrong == []
