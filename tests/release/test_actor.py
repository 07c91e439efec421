"""Reasons for a change of production."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.actor import stated
from aml_images_dagster.release.rollback import roll_back
from aml_images_dagster.release.withdrawal import withdraw
from tests.release.memory import MemoryWorld

if TYPE_CHECKING:
    from pathlib import Path


def test_white_space_around_it_is_left_out() -> None:
    assert stated(" a hole\n", "reason") == "a hole"
    assert stated("", "reason") == "", "it is not required"


@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\u00a0", " \u2003 "])
def test_one_that_says_nothing_changes_nothing(tmp_path: Path, blank: str) -> None:
    world = MemoryWorld(tmp_path)
    first, second = world.build(1), world.build(2)
    world.release(first)
    records = world.ledger.records()
    changes = (
        lambda: world.release(second, outside_window=blank),
        lambda: roll_back("base/a", "", blank, world.backends, world.settings, "somebody", print),
        lambda: withdraw("base/a", "v1", blank, world.backends, world.settings, "somebody", print),
        lambda: withdraw("base/a", "v1", "", world.backends, world.settings, "somebody", print),
    )
    for change in changes:
        with pytest.raises(BadInput, match="a reason is needed"):
            change()
    assert world.ledger.records() == records


def test_what_is_recorded_has_no_white_space_around_it(tmp_path: Path) -> None:
    world = MemoryWorld(tmp_path)
    assert world.release(world.build(1), outside_window=" urgent ").outside_window == "urgent"
