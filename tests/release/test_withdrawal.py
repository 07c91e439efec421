"""What a refused withdrawal tells a person to do, and when an image has reached its end of life.

tests/release/test_rollback.py withdraws from a real registry.
"""

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


def ended(world: MemoryWorld) -> int:
    """Images with an end of life in production."""
    return len([of for of, attached in world.production.attached.items() if attached])


def same_image(world: MemoryWorld, *numbers: int) -> None:
    """Releases `v<number>` of one image, and a later one that `:latest` points to."""
    for number in numbers:
        world.release(world.build(number, {"base/a": "5"}))
    world.release(world.build(9))


def test_the_end_of_life_comes_with_the_last_tag_of_an_image(tmp_path: Path) -> None:
    world = MemoryWorld(tmp_path)
    same_image(world, 1, 2, 3)
    for tag, expected in (("v1", 0), ("v2", 0), ("v3", 1)):
        world.withdraw(tag)
        assert ended(world) == expected, tag


def test_a_withdrawal_that_is_run_again_knows_the_other_tags_too(tmp_path: Path) -> None:
    world = MemoryWorld(tmp_path)
    same_image(world, 1, 2)

    def stop(registry: str, what: str, _: str) -> None:
        if (registry, what) == ("production", "untag"):
            raise KeyboardInterrupt

    world.before_change = stop
    with pytest.raises(KeyboardInterrupt):
        world.withdraw("v1")
    world.before_change = lambda *_: None
    assert world.withdraw("v1") is not None
    assert ended(world) == 0
