"""External bases by their full names, and when a change of one starts a build, without registry and Dagster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.settings.settings import UpstreamSettings
from aml_images_dagster.upstream import UpstreamState, WatchedBase, base_name, external_bases, is_fixed, next_build

if TYPE_CHECKING:
    from pathlib import Path

PINNED = f"quay.io/x/y@sha256:{'0' * 64}"
DOCKERFILES = {
    "a": "FROM ubuntu:22.04\n",
    "b": f"FROM docker.io/library/ubuntu:22.04 AS one\nFROM scratch\nCOPY --from={PINNED} / /\nCOPY --from=one / /\n",
    "c": "ARG TAG=22.04\nFROM ubuntu:${TAG} AS one\nFROM registry.example/a\nCOPY --from=one / /\n",
    "d": "FROM registry.example/c\n",
}
SETTINGS = UpstreamSettings(batch_minutes=30, retry_minutes=10, pause_after_failures=3)
START = datetime(2026, 11, 10, 18, tzinfo=UTC)


def test_bases_and_who_is_built_on_them(tmp_path: Path) -> None:
    for name, dockerfile in DOCKERFILES.items():
        folder = tmp_path / "images" / "x" / name
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text(dockerfile)
    catalog = Catalog.load(WorkingTree(tmp_path), "images", ["registry.example/{name}"])
    assert external_bases(catalog.images.values()) == {
        "docker.io/library/ubuntu:22.04": ("x/a", "x/b", "x/c"),
        PINNED: ("x/b",),
    }
    assert is_fixed(PINNED)
    assert not is_fixed("docker.io/library/ubuntu:22.04")


def test_full_names() -> None:
    assert base_name("ubuntu") == "docker.io/library/ubuntu:latest"
    assert base_name("mcr.microsoft.com/windows/servercore:ltsc2022") == "mcr.microsoft.com/windows/servercore:ltsc2022"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def changed(minutes: float = 0) -> WatchedBase:
    return WatchedBase(settled="old", served="old").seen("new", at(minutes))


def due(minutes: float, **bases: WatchedBase) -> list[str]:
    return next_build(UpstreamState(bases=bases), SETTINGS, at(minutes))


def test_nothing_changed_nothing_built() -> None:
    base = WatchedBase(settled="old", served="old")
    assert base.seen("old", at(0)) is base
    assert base.phase(SETTINGS, at(10_000)) == "current"
    assert due(10_000, a=base) == []


def test_changes_are_gathered() -> None:
    assert due(29, a=changed()) == []
    assert due(30, a=changed()) == ["a"]
    assert due(30, a=changed(), b=changed(20), c=WatchedBase(settled="x", served="x")) == ["a", "b"]


def test_one_build_at_a_time() -> None:
    assert due(99, a=changed().started("k"), b=changed()) == []


def test_a_build_that_succeeds_settles_what_it_was_started_for() -> None:
    done = changed().started("k").after("running", at(31)).after("succeeded", at(40))
    assert done == WatchedBase(settled="new", served="new")
    moved = changed().started("k").seen("newer", at(35)).after("succeeded", at(40))
    assert (moved.settled, moved.served, moved.phase(SETTINGS, at(70))) == ("new", "newer", "due")


def test_a_base_that_goes_back() -> None:
    assert changed().seen("old", at(1)).phase(SETTINGS, at(99)) == "current"
    back = changed().started("k").seen("old", at(35)).after("succeeded", at(40))
    assert (back.settled, back.served) == ("new", "old")
    assert back.phase(SETTINGS, at(99)) == "due"


def test_failures_back_off_and_pause() -> None:
    base, minute = changed(), 30.0
    for wait in (10, 20):
        base = base.started("k").after("failed", at(minute))
        assert base.phase(SETTINGS, at(minute + wait - 1)) == "backing off"
        minute += wait
        assert base.phase(SETTINGS, at(minute)) == "due"
    base = base.started("k").after("failed", at(minute))
    assert base.phase(SETTINGS, at(1_000_000)) == "paused"
    assert due(1_000_000, a=base) == []
    assert base.resumed().phase(SETTINGS, at(1_000_000)) == "due"
    assert base.seen("newer", at(minute)).phase(SETTINGS, at(minute)) == "due"


def test_what_failed_together_is_tried_apart() -> None:
    failed = {name: changed().started("k").after("failed", at(31)) for name in ("a", "b")}
    assert due(50, **failed) == ["a"]
    after = failed | {"a": failed["a"].started("l").after("failed", at(51))}
    assert due(52, **after) == ["b"]
    assert due(99, **after, fresh=changed(60)) == ["fresh"]


def test_a_failure_for_a_digest_that_is_gone_is_no_failure_of_the_new_one() -> None:
    base = changed().started("k").seen("newer", at(35)).after("failed", at(40))
    assert base.failures == 0
    assert base.phase(SETTINGS, at(64)) == "gathering"
    assert base.phase(SETTINGS, at(65)) == "due"


def test_c8_a_change_during_a_build_is_gathered_from_when_it_was_seen() -> None:
    moved = changed().started("k").seen("newer", at(35)).after("succeeded", at(40))
    assert moved.phase(SETTINGS, at(64)) == "gathering"
    assert moved.seen("newest", at(50)).phase(SETTINGS, at(65)) == "due"


def test_the_state_survives_being_written_down() -> None:
    watch = UpstreamState(bases={"a": changed().started("k"), "b": changed().started("k").after("failed", at(40))})
    assert UpstreamState.model_validate_json(watch.model_dump_json()) == watch


class AnyHistory(RuleBasedStateMachine):
    """Whatever registries and builds do: what is served is built, or waits for something that will come."""

    def __init__(self) -> None:
        super().__init__()
        self.base = WatchedBase(settled="0", served="0")
        self.now = START
        self.failed_in_a_row = 0

    @rule(digest=st.sampled_from("0123"))
    def serve(self, digest: str) -> None:
        if digest != self.base.served:
            self.failed_in_a_row = 0
        self.base = self.base.seen(digest, self.now)

    @rule(minutes=st.integers(1, 100))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @precondition(lambda self: next_build(UpstreamState(bases={"a": self.base}), SETTINGS, self.now))
    @rule()
    def start(self) -> None:
        assert self.failed_in_a_row < SETTINGS.pause_after_failures
        self.base = self.base.started("key")

    @precondition(lambda self: self.base.build)
    @rule(succeeds=st.booleans())
    def end(self, succeeds: bool) -> None:
        counts = not succeeds and self.base.building == self.base.served
        self.failed_in_a_row = self.failed_in_a_row + 1 if counts else 0
        self.base = self.base.after("succeeded" if succeeds else "failed", self.now)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        later = self.base.phase(SETTINGS, self.now + timedelta(days=2))
        if self.base.build:
            assert later == "building"
        elif self.base.served == self.base.settled:
            assert later == "current"
        else:
            assert later == ("paused" if self.failed_in_a_row >= SETTINGS.pause_after_failures else "due")


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = hypothesis_settings(max_examples=200, deadline=None)
