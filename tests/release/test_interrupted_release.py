"""A person interrupts a release: which tags are there, and how it goes on. In memory, at each change of production."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.history import History
from aml_images_dagster.errors import INTERRUPTED, ReleaseInterrupted, Unreachable
from tests.release.memory import MemoryWorld

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.catalog.reference import Reference

TAGS = 4
"""Two images, each with a release tag and `latest`."""


def interrupt_at(world: MemoryWorld, change: int) -> None:
    """Let Ctrl-C come at the n-th change of production."""
    changes = iter(range(change + 1))

    def before(registry: str, _what: str, _name: str) -> None:
        if registry == "production" and next(changes, None) == change:
            world.before_change = lambda *_: None
            raise KeyboardInterrupt

    world.before_change = before


@pytest.mark.parametrize("change", range(2, TAGS))
def test_it_says_which_tags_are_there_and_continues(tmp_path: Path, change: int) -> None:
    world = MemoryWorld(tmp_path)
    release = world.build(1, ("base/a", "base/b"))
    interrupt_at(world, change)
    with pytest.raises(ReleaseInterrupted) as told:
        world.release(release)
    assert told.value.exit_code == INTERRUPTED
    there = [f"{repository}:{tag}" for repository, tag in world.production.tagged]
    assert f"was interrupted: {change} of its {TAGS} tags are there:" in told.value.what
    assert sorted(told.value.what.split("\n  ")[1:]) == sorted(there)
    assert told.value.hint == f"Run `aml-images release {release.build}` again: it continues where it stopped."
    (state,) = [History(world.ledger.records()).of_build(release.build)]
    assert state is not None
    assert state.state == "not completed"
    assert world.release(release).done


def test_before_the_first_tag_it_says_that_none_is_there(tmp_path: Path) -> None:
    world = MemoryWorld(tmp_path)
    interrupt_at(world, 0)
    with pytest.raises(ReleaseInterrupted, match="none of its 2 tags is there"):
        world.release(world.build(1))
    assert world.told[-1] == "interrupted: imports that have begun are completed first"


def test_a_registry_that_does_not_say_keeps_nobody_from_reading_how_it_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = MemoryWorld(tmp_path)
    release = world.build(1)

    def before(registry: str, _what: str, name: str) -> None:
        if registry == "production" and name.endswith(":latest"):
            monkeypatch.setattr(world.production, "digest", away)
            raise KeyboardInterrupt

    def away(_: Reference) -> str | None:
        raise Unreachable("does not answer", where="prod.example")

    world.before_change = before
    with pytest.raises(ReleaseInterrupted, match="production does not say now which of its tags are there") as told:
        world.release(release)
    assert f"aml-images release {release.build}" in told.value.hint
