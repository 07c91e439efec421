"""Reasons for a change of production."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.actor import actor, stated
from aml_images_dagster.release.rollback import roll_back
from aml_images_dagster.release.withdrawal import withdraw
from aml_images_dagster.settings import Settings
from tests.release.memory import MemoryWorld

if TYPE_CHECKING:
    from pathlib import Path


def test_a_user_without_a_name_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In many containers, as those of OpenShift, the user is in no list."""

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", unknown)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert actor(Settings(repo=tmp_path)).startswith("uid-54321@")


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
