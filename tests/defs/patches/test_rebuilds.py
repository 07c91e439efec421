"""When an image is rebuilt for fixes, tried again, and given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aml_images_dagster.defs.patches.rebuilds import WantedRebuild, next_rebuilds

NOW = datetime(2026, 11, 26, 6, tzinfo=UTC)
DAY = timedelta(days=1)
WANTED = WantedRebuild(fixes=("one",))


def test_a_new_image_is_due_at_once() -> None:
    assert WANTED.phase(NOW) == "due"
    assert next_rebuilds({"base/a": WANTED}, NOW) == ["base/a"]


def test_all_that_are_due_make_one_build_and_none_starts_while_it_runs() -> None:
    both = {"base/a": WANTED, "base/b": WANTED}

    assert next_rebuilds(both, NOW) == ["base/a", "base/b"]
    assert next_rebuilds(both | {"base/a": WANTED.started("key")}, NOW) == []


def test_a_rebuild_in_vain_is_tried_again_after_a_day_and_then_after_two() -> None:
    once = WANTED.started("key").in_vain("the build failed", NOW)

    assert once.phase(NOW + DAY * 0.9) == "backing off"
    assert once.phase(NOW + DAY) == "due"
    twice = once.started("key").in_vain("the build failed", NOW + DAY)
    assert twice.phase(NOW + DAY * 2.9) == "backing off"
    assert twice.phase(NOW + DAY * 3) == "due"


def test_after_three_rebuilds_in_vain_it_is_paused_and_says_so() -> None:
    paused = WANTED
    for day in range(3):
        paused = paused.started("key").in_vain("the build did not bring it", NOW + DAY * day)

    assert paused.phase(NOW + DAY * 1000) == "paused"
    assert "3 rebuilds in vain (the build did not bring it); execute its check" in paused.in_words(NOW)
    assert next_rebuilds({"base/a": paused}, NOW) == []
    assert paused.resumed().phase(NOW) == "due"


def test_another_fix_is_a_new_chance_and_one_fix_less_is_none() -> None:
    tried = WantedRebuild(fixes=("one", "two")).in_vain("the build failed", NOW)

    assert tried.wanting(("one", "three")).phase(NOW) == "due"
    assert tried.wanting(("one",)).phase(NOW) == "backing off"


def test_a_fix_that_comes_out_during_the_build_waits_for_its_end() -> None:
    assert WANTED.started("key").wanting(("one", "two")).phase(NOW) == "building"


def test_those_in_vain_are_tried_one_at_a_time_and_after_the_others() -> None:
    in_vain = WANTED.in_vain("the build failed", NOW - DAY)

    assert next_rebuilds({"base/a": in_vain, "base/b": in_vain}, NOW) == ["base/a"]
    assert next_rebuilds({"base/a": in_vain, "base/b": WANTED}, NOW) == ["base/b"]
