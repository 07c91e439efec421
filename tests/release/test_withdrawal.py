"""What a refused withdrawal tells a person to do; tests/release/test_rollback.py withdraws from a real registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import BadInput
from tests.release.memory import MemoryWorld

if TYPE_CHECKING:
    from pathlib import Path


def hint(world: MemoryWorld, tag: str) -> str:
    with pytest.raises(BadInput, match=":latest points to") as refused:
        world.withdraw(tag)
    return refused.value.hint


def test_the_first_release_has_nothing_to_roll_back_to(tmp_path: Path) -> None:
    world = MemoryWorld(tmp_path)
    world.release(world.build(1))
    assert hint(world, "v1") == "It has no earlier release with another image: release another build first."


def test_two_releases_of_one_image_have_nothing_to_roll_back_to(tmp_path: Path) -> None:
    world = MemoryWorld(tmp_path)
    for number in (1, 2):
        world.release(world.build(number, {"base/a": "5"}))
    for tag in ("v1", "v2"):
        assert hint(world, tag) == "It has no earlier release with another image: release another build first."


def test_of_releases_that_may_be_meant_those_that_were_withdrawn_are_left_out(tmp_path: Path) -> None:
    world = MemoryWorld(tmp_path)
    for number in (1, 2, 3):
        world.release(world.build(number))
    world.withdraw("v2")
    with pytest.raises(BadInput, match="has no release 'v9'") as refused:
        world.withdraw("v9")
    assert refused.value.hint == "Its releases: v3, v1."


def test_a_rollback_is_named_where_it_helps(tmp_path: Path) -> None:
    world = MemoryWorld(tmp_path)
    for number in (1, 2):
        world.release(world.build(number))
    assert hint(world, "v2") == "Run `aml-images rollback base/a` first, or release another build."
    world.roll_back()
    assert world.withdraw("v2") is not None
