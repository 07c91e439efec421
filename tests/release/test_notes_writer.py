"""Release notes: what they say, and that they name no tag that production does not serve, whatever happens."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.ledger import LATEST
from aml_images_dagster.builds.versions.release_notes import (
    PAGE,
    public_notes,
    read_notes,
    served_notes,
    with_notes,
    write_notes,
)
from aml_images_dagster.errors import ReleaseInterrupted, Unreachable
from tests.release.memory import MemoryWorld
from tests.release.test_major_changes import build as build  # a fixture
from tests.vulnerabilities.trivy_program import TrivyProgram, finding

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aml_images_dagster.release.release_json import ReleaseJson
    from tests.release.conftest import House
    from tests.release.test_major_changes import Build

IMAGES = ("base/a", "base/b")


@pytest.fixture
def world(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path)


def page(world: MemoryWorld, release: ReleaseJson) -> str:
    path = world.artifacts.build(release.build).root / PAGE
    return path.read_text() if path.exists() else ""


def named_tags(world: MemoryWorld) -> set[str]:
    """Every tag that a page names as one of production: `repository:tag`."""
    pages = (folder.root / PAGE for folder in world.artifacts.folders())
    text = "\n".join(path.read_text() for path in pages if path.exists())
    return set(re.findall(r"^`(\S+:\S+)`, `sha256:", text, re.MULTILINE))


def check(world: MemoryWorld) -> None:
    """No page and no notes name a tag that production does not serve with the digest that was released."""
    served = {f"{repository}:{tag}" for repository, tag in world.production.tagged}
    assert named_tags(world) <= served
    for image in IMAGES:
        for notes in served_notes(image, world.backends):
            assert world.production.tagged[notes.repository, notes.tag] == notes.digest


def test_a_first_release_and_the_next(world: MemoryWorld) -> None:
    first, second = world.build(1), world.build(2)
    world.release(first)
    world.release(second)
    assert "First release." in page(world, first)
    assert "`public/azureml/a:v2`, `sha256:" in page(world, second)
    assert "released by `somebody` on" in page(world, second)
    assert "What changed is not known" in page(world, second), "there are no layers behind these digests"
    assert [notes.tag for notes in served_notes("base/a", world.backends)] == ["v2", "v1"]
    check(world)


def test_the_same_image_under_another_tag(world: MemoryWorld) -> None:
    world.release(world.build(1, {"base/a": "1"}))
    again = world.build(2, {"base/a": "1"})
    world.release(again)
    assert "The same image as `v1`." in page(world, again)
    world.release(world.build(3))
    world.withdraw("v1")
    assert "v1" not in page(world, again)


def test_a_withdrawn_tag_is_named_no_more(world: MemoryWorld) -> None:
    first = world.build(1, IMAGES)
    world.release(first)
    world.release(world.build(2, IMAGES))
    world.withdraw("v1")
    assert "## base/a\n\nProduction does not serve this release any more." in page(world, first)
    assert named_tags(world) >= {"public/azureml/b:v1", "public/azureml/a:v2"}
    assert [notes.tag for notes in served_notes("base/a", world.backends)] == ["v2"]
    check(world)


def test_public_notes_name_no_earlier_release_that_was_withdrawn(world: MemoryWorld) -> None:
    for number, content in ((1, "1"), (2, "1")):
        world.release(world.build(number, {"base/a": content}))
    newest, _ = served_notes("base/a", world.backends)
    assert newest.same_as == "v1"
    assert "v1" in "".join(public_notes(newest, "registry.example/a", {"v1", "v2"}, ()))
    assert "v1" not in "".join(public_notes(newest, "registry.example/a", {"v2"}, ()))


def test_a_rollback_leaves_the_notes_of_tags_that_are_served(world: MemoryWorld) -> None:
    world.release(world.build(1))
    world.release(world.build(2))
    world.roll_back()
    assert [notes.tag for notes in served_notes("base/a", world.backends)] == ["v2", "v1"]
    check(world)


def test_a_tag_that_another_client_has_moved_or_removed_is_not_shown(world: MemoryWorld) -> None:
    world.release(world.build(1))
    world.release(world.build(2))
    world.production.tagged["public/azureml/a", "v1"] = f"sha256:{'9' * 64}"
    del world.production.tagged["public/azureml/a", "v2"]
    assert served_notes("base/a", world.backends) == []


def test_a_tag_that_is_gone_before_the_notes_are_written_gets_none(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = world.build(1, IMAGES)
    complete = type(world.ledger).complete

    def remove_and_complete(*arguments: object, **fields: object) -> object:
        del world.production.tagged["public/azureml/a", "v1"]
        return complete(*arguments, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(type(world.ledger), "complete", remove_and_complete)
    world.release(release)
    assert named_tags(world) == {"public/azureml/b:v1"}
    check(world)


class _KilledError(Exception):
    pass


def _kill_at(world: MemoryWorld, cut: int) -> Callable[[], int]:
    """Let whoever changes a registry die at the n-th change; gives how many there were."""
    seen = 0

    def count(_registry: str, _what: str, _name: str) -> None:
        nonlocal seen
        seen += 1
        if seen == cut:
            raise _KilledError

    world.before_change = count
    return lambda: seen


def test_a_release_that_is_killed_at_any_request_has_no_notes_until_it_is_complete(tmp_path: Path) -> None:
    for cut in range(1, 10):
        folder = tmp_path / str(cut)
        folder.mkdir()
        world = MemoryWorld(folder)
        world.release(world.build(1, IMAGES))
        second = world.build(2, IMAGES)
        changes = _kill_at(world, cut)
        try:
            world.release(second)
        except _KilledError:
            assert not page(world, second)
            assert [notes.tag for notes in served_notes("base/a", world.backends)] == ["v1"]
            check(world)
            world.before_change = lambda *_: None
            world.release(second)
        assert named_tags(world) >= {"public/azureml/a:v2", "public/azureml/b:v2"}
        check(world)
        if changes() < cut:
            break
    else:
        pytest.fail("there were more requests than cuts")
    assert cut > 4, "two tags of two images"


def test_a_withdrawal_that_is_killed_names_the_tag_no_more(world: MemoryWorld) -> None:
    world.release(world.build(1))
    world.release(world.build(2))
    _kill_at(world, 1)
    with pytest.raises(_KilledError):
        world.withdraw("v1")
    assert [notes.tag for notes in served_notes("base/a", world.backends)] == ["v2"]
    world.before_change = lambda *_: None
    world.withdraw("v1")
    check(world)


def test_notes_that_cannot_be_written_fail_no_release_and_are_written_by_the_next(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = world.build(1)

    def refuse(*_: object) -> None:
        raise Unreachable("it does not answer", where="prod.example")

    with monkeypatch.context() as patched:
        patched.setattr("aml_images_dagster.release.notes_writer.write_page", refuse)
        done = world.releaser().release(release)
    assert (done.record.done, done.notes) == (True, None)
    assert any(
        "The release notes could not be written: prod.example: it does not answer" in each for each in world.told
    )
    assert with_notes(world.ledger.records(), world.artifacts) == [world.ledger.records()[0]]
    again = world.releaser().release(release)
    assert again.plan.nothing_to_do
    assert str(again.notes) == str(world.artifacts.build(release.build).root / PAGE)
    assert len(with_notes(world.ledger.records(), world.artifacts)) == 2


def test_who_interrupts_the_writing_of_notes_is_told_that_the_release_is_complete(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aml_images_dagster.release.notes_writer.write_page", interrupt)
    with pytest.raises(ReleaseInterrupted, match="is complete; its notes are not"):
        world.release(world.build(1))
    assert world.ledger.records()[-1].done


def test_notes_of_another_build_are_not_believed(world: MemoryWorld) -> None:
    first, second = world.build(1), world.build(2)
    world.release(first)
    notes = read_notes(world.artifacts.build(first.build), "base/a")
    assert notes is not None
    write_notes(world.artifacts.build(second.build), notes)
    assert read_notes(world.artifacts.build(second.build), "base/a") is None


def test_a_release_without_notes_is_not_waited_for_for_ever(world: MemoryWorld) -> None:
    record = world.release(world.build(1))
    (world.artifacts.build(record.build).root / PAGE).unlink()
    old = record.model_copy(update={"when": record.when - timedelta(minutes=11)})
    assert with_notes([record, record], world.artifacts) == []
    assert with_notes([old, old], world.artifacts) == [old, old]


def test_notes_are_those_of_the_release_that_came_first_with_a_tag(world: MemoryWorld) -> None:
    first = world.build(1, {"base/a": "1"}, tag="v1")
    world.release(first)
    world.release(world.build(2, {"base/a": "1"}, tag="v1"))
    (notes,) = served_notes("base/a", world.backends)
    assert notes.build == first.build


@pytest.mark.engine
def test_the_notes_of_a_release_say_what_is_fixed(
    house: House, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trivy = TrivyProgram.on_path(tmp_path / "trivy", monkeypatch)
    house.settings = house.settings.model_copy(
        update={"vulnerabilities": house.settings.vulnerabilities.model_copy(update={"sources": ("trivy",)})}
    )
    first = build("v1", 2, libssl3="3.0.15-1")
    second = build("v2", 1, libssl3="3.0.17-1", libc6="2.40-1")
    trivy.finds(first.images[0].staging.digest, finding("CVE-2026-1", "libssl3", VendorIDs=["DSA-6001-1"]))
    trivy.finds(second.images[0].staging.digest, finding("CVE-2026-2", "libc6"))
    house.releaser().release(first)

    done = house.releaser().release(second)

    assert done.notes is not None
    text = done.notes.read_text()
    image = house.repository.image("apps/other")
    for part in (
        f"## {image}",
        f":v2`, `{second.images[0].staging.digest}`, released by `somebody`",
        "Changes since `v1`:",
        "| `libssl3` | `3.0.15-1` | `3.0.17-1` | `CVE-2026-1` (`DSA-6001-1`) |",
        "| `libc6` | - | `2.40-1` |",
        "**Vulnerabilities left without a fix: 1**\n\n`CVE-2026-2`",
        "Vulnerability sources: trivy.",
    ):
        assert part in text
    notes = read_notes(house.backends.artifacts.build(second.build), image)
    assert notes is not None
    public = "\n".join(public_notes(notes, "registry.example/other", {"v1", "v2"}, ()))
    assert "| `libssl3` | `3.0.15-1` | `3.0.17-1` | `CVE-2026-1` (`DSA-6001-1`) |" in public
    assert all(secret not in public for secret in ("somebody", second.build, second.commit[:12]))
    assert LATEST not in {each.tag for each in served_notes(image, house.backends)}
    house.repository.run("release", second.build)
    shown = house.repository.run("release", second.build, COLUMNS="200").stdout
    assert f"Release notes: {done.notes}" in shown
