"""Releases, rollbacks and withdrawals that broke off, and what comes after them."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.artifacts import BuildFolder
from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.housekeeping.janitor import sweep
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.builds.steps.parents import released
from aml_images_dagster.errors import BadInput, FactoryError, ReleaseFailed, Unreachable
from aml_images_dagster.release import production
from aml_images_dagster.release.candidate import completed
from aml_images_dagster.release.lease import Lease
from aml_images_dagster.release.release_plan import hint_at_withdrawn
from tests.records import begun_release
from tests.release.memory import MemoryWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aml_images_dagster.release.release_json import ReleaseJson


@pytest.fixture
def world(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path)


@contextmanager
def broken_off(world: MemoryWorld, what: str, name: str) -> Iterator[None]:
    """A context in which a change of production ends before it does something to a name that ends so."""

    def cut(_: str, done: str, to: str) -> None:
        if done == what and to.endswith(name):
            raise Unreachable("cut")

    world.before_change = cut
    with pytest.raises(FactoryError, match="cut"):
        yield
    world.before_change = lambda *_: None


def before_latest(record: Any) -> list[str | None]:
    return [change.before for change in record.changes if change.tag == LATEST]


def test_a_roll_back_after_a_release_that_went_on_goes_to_what_was_served(world: MemoryWorld) -> None:
    first, second, third = (world.build(n) for n in (1, 2, 3))
    world.release(first)
    with broken_off(world, "tag", ":latest"):
        world.release(third)
    world.release(second)
    done = world.release(third)
    assert before_latest(done) == [second.images[0].staging.digest]
    assert [record.build for record in History(world.ledger.records()).unfinished()] == []
    world.roll_back()
    assert world.served() == "2"


def test_a_release_goes_on_where_nobody_has_changed_anything(world: MemoryWorld) -> None:
    images = ("base/a", "base/b")
    world.release(world.build(1, images))
    second = world.build(2, images)
    with broken_off(world, "tag", "b:latest"):
        world.release(second)
    assert (world.served("base/a"), world.served("base/b")) == ("2", "1")
    done = world.release(second)
    assert [record.begun for record in world.ledger.records()] == [None, 1, None, 3]
    assert len(set(before_latest(done))) == 1
    world.roll_back("base/a")
    assert world.served("base/a") == "1"


def test_an_older_build_does_not_take_latest_back_from_a_release_that_broke_off(world: MemoryWorld) -> None:
    images = ("base/a", "base/b")
    first, second, third = (world.build(n, images) for n in (1, 2, 3))
    world.release(first)
    with broken_off(world, "tag", "b:latest"):
        world.release(third)
    with pytest.raises(BadInput, match=f"a:latest is from build {third.build}, which is newer"):
        world.release(second)
    assert (world.served("base/a"), world.served("base/b")) == ("3", "1")
    world.roll_back("base/a")
    assert world.served("base/a") == "1"
    world.release(second)
    assert (world.served("base/a"), world.served("base/b")) == ("2", "2")


def test_a_release_that_broke_off_is_gone_back_to_once_it_was_served(world: MemoryWorld) -> None:
    images = ("base/a", "base/b")
    second = world.build(2, images)
    world.release(world.build(1, images))
    with broken_off(world, "tag", "b:latest"):
        world.release(second)
    world.release(world.build(3, images))
    world.roll_back("base/a")
    assert world.served("base/a") == "2"
    with pytest.raises(BadInput, match=r"base/b has no release 'v2'"):
        world.roll_back("base/b", "v2")
    world.roll_back("base/b")
    assert world.served("base/b") == "1"


def test_a_release_that_is_being_withdrawn_is_not_gone_back_to(world: MemoryWorld) -> None:
    world.release(world.build(1))
    world.release(world.build(2))
    with broken_off(world, "untag", ":v1"):
        world.withdraw("v1")
    with pytest.raises(BadInput, match="has no earlier release"):
        world.roll_back()
    with pytest.raises(BadInput, match="it was withdrawn"):
        world.roll_back(to="v1")
    assert world.withdraw("v1") is not None
    assert (world.served(), world.served(tag="v1")) == ("2", None)


def test_an_image_that_was_withdrawn_comes_back_under_no_other_tag(world: MemoryWorld) -> None:
    world.release(world.build(1, {"base/a": "aa"}))
    world.release(world.build(2, {"base/a": "aa"}))
    world.release(world.build(3))
    world.withdraw("v1")
    with pytest.raises(BadInput, match="has no earlier release"):
        world.roll_back()
    with pytest.raises(BadInput, match="base/a is the image of v1, which was withdrawn by somebody") as refused:
        world.release(world.build(4, {"base/a": "aa"}))
    assert "commit, and run `aml-images build base/a`." in refused.value.hint
    assert world.served() == "3"


def test_a_build_that_was_withdrawn_needs_another_image(world: MemoryWorld) -> None:
    first = world.build(1, tag="20261123.v1")
    world.release(first)
    world.release(world.build(2))
    world.withdraw("20261123.v1")
    with pytest.raises(BadInput, match=r"/a:20261123.v1 was withdrawn by somebody") as refused:
        world.release(first)
    assert "in its folder or its base, commit, and run `aml-images build base/a`" in refused.value.hint
    assert "A build of the same commit takes the same image again, and with --force makes another" in refused.value.hint


def test_what_was_withdrawn_is_said_before_it_is_built_again(world: MemoryWorld) -> None:
    released = world.build(1, {"base/a": "aa", "base/b": "bb"})
    world.release(released)
    world.release(world.build(2, {"base/a": "cc", "base/b": "dd"}))
    digests = {f"{image.family}/{image.name}": image.staging.digest for image in released.images}
    assert hint_at_withdrawn(digests, world.ledger.records()) == ""
    world.withdraw("v1")
    said = hint_at_withdrawn(digests, world.ledger.records())
    assert said.startswith("This build cannot be released: base/a is the image of v1, which was withdrawn by somebody")
    assert "run `aml-images build base/a`." in said
    assert "base/b" not in said
    assert hint_at_withdrawn({"base/b": digests["base/a"]}, world.ledger.records()) == "", "it is of another image"


def test_what_another_build_was_to_be_under_a_withdrawn_tag_may_be_released(world: MemoryWorld) -> None:
    world.release(world.build(1))
    with broken_off(world, "tag", ":v9"):
        world.release(world.build(2, {"base/a": "bb"}, tag="v9"))
    world.release(world.build(3, {"base/a": "cc"}, tag="v9"))
    world.release(world.build(4))
    world.withdraw("v9")
    world.release(world.build(5, {"base/a": "bb"}))
    with pytest.raises(BadInput, match="base/a is the image of v9"):
        world.release(world.build(6, {"base/a": "cc"}))


def test_a_release_that_broke_off_is_withdrawn(world: MemoryWorld) -> None:
    world.release(world.build(1))
    second = world.build(2)
    with broken_off(world, "tag", ":latest"):
        world.release(second)
    assert world.withdraw("v2") is not None
    assert (world.served(), world.served(tag="v2")) == ("1", None)
    with pytest.raises(BadInput, match="was withdrawn"):
        world.release(second)


def test_a_roll_back_that_broke_off_goes_no_further_back_when_it_is_repeated(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in (1, 2, 3):
        world.release(world.build(n))

    def killed(*_: object, **__: object) -> None:
        raise FactoryError("killed")

    with monkeypatch.context() as killing, pytest.raises(FactoryError, match="killed"):
        killing.setattr(Ledger, "complete", killed)
        world.roll_back()
    assert world.served() == "2"
    assert world.roll_back() is not None
    assert world.served() == "2"
    world.roll_back()
    assert world.served() == "1"


def test_what_was_rolled_back_from_is_not_gone_back_to_although_its_image_came_back(world: MemoryWorld) -> None:
    for n, content in ((1, "aa"), (2, "bb"), (3, "aa")):
        world.release(world.build(n, {"base/a": content}))
    world.roll_back()
    assert world.served() == "bb"
    world.roll_back()
    assert world.served() == "aa"
    with pytest.raises(BadInput, match="has no earlier release"):
        world.roll_back()


def test_of_builds_with_the_same_image_the_newest_is_the_latest(world: MemoryWorld) -> None:
    first = world.build(1, {"base/a": "aa"})
    with broken_off(world, "tag", ":latest"):
        world.release(first)
    world.release(world.build(3, {"base/a": "aa"}))
    world.release(first)
    with pytest.raises(BadInput, match="which is newer"):
        world.release(world.build(2))
    assert world.served() == "aa"


def test_a_newer_release_of_a_drop_is_not_taken_back(world: MemoryWorld) -> None:
    world.release(world.build(1, tag="20261123.v1"))
    for tag in ("20261123.v10", LATEST):
        world.production.put("public/azureml/a", tag, f"sha256:{'d' * 64}")
    with pytest.raises(BadInput, match=r"a:latest is 20261123\.v10, which is newer"):
        world.release(world.build(2, tag="20261123.v9"))
    world.release(world.build(3, tag="20261124.v1"))
    assert world.served() == "3"
    world.roll_back()  # past the drop, of which the ledger does not know
    assert world.served() == "1"


@pytest.mark.parametrize("contents", [("1", "2", "3"), ("1", "2", "1")])
def test_what_a_drop_puts_back_after_a_rollback_is_not_taken_back(
    world: MemoryWorld, contents: tuple[str, ...]
) -> None:
    builds = [world.build(n, {"base/a": content}, tag=f"20261123.v{n}") for n, content in enumerate(contents, start=1)]
    for build in builds:
        world.release(build)
    world.roll_back()
    world.production.put("public/azureml/a", LATEST, f"sha256:{contents[-1]:0>64}")  # a drop: in no record
    with pytest.raises(BadInput, match=f"a:latest is from build {builds[-1].build}, which is newer"):
        world.release(builds[1])
    assert world.served() == contents[-1]
    world.release(world.build(4, tag="20261123.v4"))
    assert world.served() == "4"


def test_latest_that_somebody_else_moves_meanwhile_is_left_alone(world: MemoryWorld) -> None:
    world.release(world.build(1))

    def drop(_: str, __: str, name: str) -> None:
        if name.endswith(":v2"):
            world.before_change = lambda *_: None
            world.production.put("public/azureml/a", LATEST, f"sha256:{'d' * 64}")

    world.before_change = drop
    with pytest.raises(ReleaseFailed, match=f"a:latest changed to sha256:{'d' * 64} during this change"):
        world.release(world.build(2))
    assert world.served() == "d" * 64


def test_two_images_with_one_name_are_refused_before_anything_begins(world: MemoryWorld) -> None:
    release = world.build(1, ("base/a", "gpu/a"))
    for _ in range(2):
        with pytest.raises(BadInput, match="base/a and gpu/a would both be public/azureml/a:v1") as refused:
            world.release(release)
        assert "production_names" in refused.value.hint
    assert world.production.tagged == {}
    assert world.ledger.records() == ()


def test_the_release_of_another_family_is_no_parent(world: MemoryWorld) -> None:
    def find(family: str) -> str | None:
        image: Any = type("Named", (), {"family": family, "name": "a", "id": f"{family}/a"})
        found = released(image, world.backends, world.settings)
        return found.digest if found else None

    assert find("base") is None
    release = world.build(1)
    world.release(release)
    assert find("base") == release.images[0].staging.digest
    assert find("gpu") is None
    world.production.put("public/azureml/a", LATEST, f"sha256:{'d' * 64}")
    assert find("gpu") is None
    (world.ledger.folder / "000001.json").unlink()
    (world.ledger.folder / "000002.json").unlink()
    assert find("gpu") == f"sha256:{'d' * 64}"  # nobody knows better


@pytest.mark.parametrize("what", ["release", "rollback", "withdrawal"])
def test_whoever_lost_the_lease_changes_nothing(world: MemoryWorld, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (1, 2):
        world.release(world.build(n))
    third = world.build(3)
    before = dict(world.production.tagged)
    append = Ledger.append

    def slept(self: Ledger, record: Any) -> Any:
        appended = append(self, record)
        last = max(path for path in (self.folder / "lease").iterdir())
        (self.folder / "lease" / f"{int(last.stem) + 1:06}.json").write_bytes(last.read_bytes())
        return appended

    monkeypatch.setattr(Ledger, "append", slept)
    actions: dict[str, Callable[[], object]] = {
        "release": lambda: world.release(third),
        "rollback": world.roll_back,
        "withdrawal": lambda: world.withdraw("v1"),
    }
    with pytest.raises(ReleaseFailed, match="suspended for so long"):
        actions[what]()
    assert world.production.tagged == before
    assert len(History(world.ledger.records()).unfinished()) == 1


@pytest.mark.parametrize("how", ["expired", "moved"])
def test_a_build_that_leaves_while_its_release_begins(
    world: MemoryWorld, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.release(world.build(1))
    second = world.build(2)
    append = Ledger.append

    def left(self: Ledger, record: Any) -> Any:
        if record.begun is None and how == "expired":
            world.artifacts.build(second.build).overrule("expired")  # a person may, with --force
        elif record.begun is None:
            world.staging.put("base", f"a--{second.build}", f"sha256:{'e' * 64}")
        return append(self, record)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Ledger, "append", left)
        with pytest.raises(ReleaseFailed, match=r"has left staging|serves sha256:e") as failed:
            world.release(second)
    assert "again: it continues" not in failed.value.hint
    assert (world.served(), world.served(tag="v2")) == ("1", None)
    world.roll_back(to="v1")
    world.release(world.build(3, tag="v2"))  # its release tag pointed to nothing
    world.roll_back()
    assert world.served() == "1"


def test_a_window_that_closes_while_somebody_is_waited_for(world: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.configure(windows="Mon-Sun 00:00-24:00")
    enter = Lease.__enter__

    def waited(self: Lease) -> Lease:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        world.configure(windows=f"{yesterday:%a} 00:00-24:00")
        closed = world.settings
        monkeypatch.setattr(production, "window_closed", lambda _, now, ask=production.window_closed: ask(closed, now))
        return enter(self)

    monkeypatch.setattr(Lease, "__enter__", waited)
    with pytest.raises(BadInput, match="releases start"):
        world.release(world.build(1))
    assert world.ledger.records() == ()


def test_releases_that_began_again_are_not_shown_as_not_completed(world: MemoryWorld) -> None:
    first, second = world.build(1), world.build(2)
    with broken_off(world, "tag", ":latest"):
        world.release(second)
    with broken_off(world, "tag", ":latest"):
        world.release(first)
    assert [r.build for r in History(world.ledger.records()).unfinished()] == [first.build, second.build]
    world.release(second)
    assert [r.build for r in History(world.ledger.records()).unfinished()] == [first.build]


def test_a_newer_release_of_a_drop_is_not_taken_back_although_another_was_tried_since(world: MemoryWorld) -> None:
    world.release(world.build(1, tag="20261123.v1"))
    for tag in ("20261123.v10", LATEST):
        world.production.put("public/azureml/a", tag, f"sha256:{'d' * 64}")
    with broken_off(world, "tag", ":latest"):
        world.release(world.build(3, tag="20261124.v1"))
    with pytest.raises(BadInput, match=r"a:latest is 20261123\.v10, which is newer"):
        world.release(world.build(2, tag="20261123.v9"))


def test_a_roll_back_to_an_image_whose_last_release_has_only_begun(world: MemoryWorld) -> None:
    world.release(world.build(1, {"base/a": "aa"}))
    with broken_off(world, "tag", ":v2"):
        world.release(world.build(2, {"base/a": "aa"}))
    world.release(world.build(3))
    record = world.roll_back()
    assert record is not None
    assert (world.served(), record.release_tag) == ("aa", "v1")


def died_before_its_first_record(world: MemoryWorld, number: int, monkeypatch: pytest.MonkeyPatch) -> ReleaseJson:
    """A build whose release was killed right after it had claimed it."""
    build = world.build(number)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Ledger, "append", die)
        with pytest.raises(KeyboardInterrupt):
            world.release(build)
    return build


def expire(world: MemoryWorld) -> None:
    """The janitor, when every build is too old and every claim of a release is old."""
    now = datetime.now(UTC) + timedelta(days=world.settings.keep_staged_days)
    runs: Any = SimpleNamespace(state=lambda _: "succeeded", failure=lambda _: None)
    assert [report.clean for report in sweep(world.backends, world.settings, runs, now)] in ([], [True])


def status_of(world: MemoryWorld, release: ReleaseJson) -> str:
    record = world.artifacts.build(release.build).read_build()
    assert record is not None
    return record.status


def test_the_build_of_a_release_that_died_before_its_first_record_expires(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = died_before_its_first_record(world, 1, monkeypatch)
    expire(world)
    assert status_of(world, build) == "expired"
    assert world.staging.tagged == {}
    with pytest.raises(BadInput, match="has left staging"):
        completed(build.build, world.artifacts)
    assert world.ledger.records() == ()


def test_the_build_of_a_release_that_died_before_its_first_record_is_released_by_the_next(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = died_before_its_first_record(world, 1, monkeypatch)
    world.release(build)
    expire(world)
    assert (status_of(world, build), world.served()) == ("succeeded", "1")
    assert world.staging.tagged != {}


@pytest.mark.parametrize("asleep_at", ["the lease", "the first record"])
@pytest.mark.parametrize("is_lease_over", [True, False])
def test_a_release_that_slept_after_its_claim_until_its_build_expired_changes_nothing(
    world: MemoryWorld, asleep_at: str, is_lease_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.release(world.build(1))
    second = world.build(2)
    before = dict(world.production.tagged)
    check = Lease.check
    checked: list[bool] = []

    def sleep(lease: Lease) -> None:
        expire(world)
        if is_lease_over:
            lease._runs_out = 0

    def asleep_before_the_check(lease: Lease) -> None:
        checked.append(True)
        if len(checked) == 2 and asleep_at == "the lease":
            sleep(lease)
        check(lease)
        if len(checked) == 2 and asleep_at == "the first record":
            sleep(lease)

    monkeypatch.setattr(Lease, "check", asleep_before_the_check)
    with pytest.raises(ReleaseFailed, match=r"suspended for so long|has left staging"):
        world.release(second)
    assert world.production.tagged == before
    assert status_of(world, second) == "expired"
    assert len(world.ledger.records()) == 2 + (asleep_at == "the first record" or not is_lease_over)


def test_a_release_that_begins_while_its_old_claim_expires_is_kept(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The janitor has read the ledger before the first record, and writes its decision after it."""
    build = died_before_its_first_record(world, 1, monkeypatch)
    overrule = BuildFolder.overrule

    def begin_meanwhile(folder: BuildFolder, status: Any) -> None:
        if not world.ledger.records():
            world.ledger.append(begun_release(build.build))
        overrule(folder, status)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(BuildFolder, "overrule", begin_meanwhile)
        expire(world)
    assert status_of(world, build) == "succeeded"
    assert world.staging.tagged != {}
