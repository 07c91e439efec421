"""Releasing a build between the real registries: everything by digest, `:latest` last of all, one at a time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from aml_images_dagster.builds.artifacts import BuildFolder
from aml_images_dagster.builds.housekeeping.cleanup import cleanup
from aml_images_dagster.builds.ledger import LATEST, Ledger, ReleaseRecord
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, FactoryError, ReleaseFailed
from aml_images_dagster.release.candidate import completed
from aml_images_dagster.release.production import check_window
from tests.emulators.faulty_registry import Fault, FaultyRegistry
from tests.release.conftest import House, digests

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.registry.oci import OciRegistry
    from aml_images_dagster.release.release_json import ReleaseJson

    CompleteBuild = Callable[..., ReleaseJson]

pytestmark = pytest.mark.engine

IMAGES = ("apps/hello", "apps/other", "tools/shell")


def test_production_serves_what_was_tested(house: House, complete_build: CompleteBuild) -> None:
    release = complete_build(*IMAGES)
    done = house.releaser("the release engineer").release(release)
    everything = digests(release, latest=False) | digests(release, latest=True)
    assert {name: house.served(name) for name in everything} == everything
    begun, record = house.ledger.records()
    assert done.record == record
    assert (begun.number, begun.begun, record.number, record.begun) == (1, None, 2, 1)
    assert record.who == "the release engineer"
    assert (record.build, record.commit, record.release_tag) == (release.build, release.commit, release.release_tag)
    assert begun.changes == record.changes
    assert [c.tag == LATEST for c in record.changes] == [False, False, False, True, True, True]
    assert {c.name: (c.before, c.after) for c in record.changes} == {
        name: (None, digest)
        for name, digest in (digests(release, latest=False) | digests(release, latest=True)).items()
    }


def test_latest_moves_after_everything_else(house: House, complete_build: CompleteBuild) -> None:
    release = complete_build(*IMAGES)
    house.releaser().release(release)
    said = [line.partition(" is ")[0] for line in house.told]
    assert sorted(said[:3]) == sorted(digests(release, latest=False))
    assert said[3:] == list(digests(release, latest=True))


def test_a_plan_shows_old_and_new_and_changes_nothing(house: House, complete_build: CompleteBuild) -> None:
    first, second = complete_build(*IMAGES, tag="first"), complete_build(*IMAGES, tag="second")
    house.releaser().release(first)
    plan = house.releaser().plan(second)
    before, after = digests(first, latest=True), digests(second, latest=True)
    assert {c.name: (c.before, c.after) for c in plan.changes if c.tag == LATEST} == {
        name: (before[name], after[name]) for name in after
    }
    assert {c.before for c in plan.changes if c.tag != LATEST} == {None}
    assert house.latest(first) == before
    assert len(house.ledger.records()) == 2


def test_a_release_that_is_done_is_not_done_again(house: House, complete_build: CompleteBuild) -> None:
    release = complete_build(*IMAGES)
    first = house.releaser().release(release)
    again = house.releaser().release(release)
    assert again.record == first.record
    assert again.plan.nothing_to_do
    assert len(house.ledger.records()) == 2


def test_the_same_tag_with_another_digest_is_refused(house: House, complete_build: CompleteBuild) -> None:
    first, second = complete_build("apps/other", tag="20261123.v1"), complete_build(*IMAGES, tag="20261123.v1")
    house.releaser().release(first)
    with pytest.raises(BadInput, match=f"released by build {first.build}") as refused:
        house.releaser().release(second)
    assert "Build again, without a release number" in refused.value.hint
    assert house.latest(second) == {**dict.fromkeys(digests(second, latest=True)), **digests(first, latest=True)}


def test_a_tag_that_vanished_is_not_released_with_another_digest(house: House, complete_build: CompleteBuild) -> None:
    first, second = complete_build("apps/other", tag="t"), complete_build("apps/other", tag="t")
    house.releaser().release(first)
    (name,) = digests(first, latest=False)
    repository, _, tag = name.rpartition(":")
    house.backends.production.untag(Reference(house.backends.production.host, repository, tag))
    with pytest.raises(BadInput, match=f"{name} was {digests(first, latest=False)[name]}, released by build"):
        house.releaser().release(second)
    assert house.served(name) is None
    house.releaser().release(first)
    assert house.served(name) == digests(first, latest=False)[name]


def test_what_images_do_without_is_told(house: House, complete_build: CompleteBuild) -> None:
    release = complete_build(*IMAGES)
    folder, name = house.backends.artifacts.build(release.build), house.repository.image("apps/other")
    staged = folder.read_staged(name)
    assert staged is not None
    notices = {"/LICENSE.txt": True, "/ThirdPartyNotices.txt": False}
    folder.write_staged(staged.model_copy(update={"notices": notices}))
    lacking = house.releaser().plan(release).lacks
    assert lacking[name] == "not tested, without /ThirdPartyNotices.txt"
    assert set(lacking.values()) == {"not tested", lacking[name]}
    assert house.releaser().release(release).plan.lacks == lacking


def test_builds_of_different_images_share_a_tag(house: House, complete_build: CompleteBuild) -> None:
    first, second = complete_build("apps/other", tag="t"), complete_build("tools/shell", tag="t")
    house.releaser().release(first)
    house.releaser().release(second)
    assert house.latest(second) == digests(second, latest=True)


def test_a_release_never_takes_latest_back(house: House, complete_build: CompleteBuild) -> None:
    old, new = complete_build(*IMAGES, tag="old", age=timedelta(days=1)), complete_build("apps/other", tag="new")
    house.releaser().release(new)
    with pytest.raises(BadInput, match="is newer") as refused:
        house.releaser().release(old)
    assert "rollback" in refused.value.hint
    assert house.latest(new) == digests(new, latest=True)
    assert len(house.ledger.records()) == 2


@pytest.mark.parametrize("how", ["moved", "gone"])
def test_a_staged_digest_that_moved_is_refused(
    house: House, complete_build: CompleteBuild, push_new_image: Callable[[str, str], Reference], how: str
) -> None:
    release = complete_build(*IMAGES)
    reference = Reference.parse(release.images[1].staging.reference)
    if how == "moved":
        push_new_image(reference.repository, reference.tag)
    else:
        house.backends.staging.delete(reference)
    with pytest.raises(BadInput, match=f"{reference.tag} serves "):
        house.releaser().release(release)
    assert set(house.latest(release).values()) == {None}
    assert house.ledger.records() == ()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("running", "still running"),
        ("partial", "part of the chain"),
        ("failed", "failed"),
        ("canceled", "was canceled"),
        ("expired", "has left staging"),
    ],
)
def test_a_build_that_is_not_complete(house: House, complete_build: CompleteBuild, status: Any, said: str) -> None:
    release = complete_build("apps/other")
    house.backends.artifacts.build(release.build).finish(status)
    with pytest.raises(BadInput, match=said):
        completed(release.build, house.backends.artifacts)


@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_a_build_without_a_release_json_that_can_be_read(
    house: House, complete_build: CompleteBuild, damage: str
) -> None:
    release = complete_build("apps/other")
    path = house.backends.artifacts.build(release.build).root / "release.json"
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match=r"release\.json"):
        completed(release.build, house.backends.artifacts)


@pytest.mark.parametrize("build", ["20261123.00000000", "nonsense", "../.."])
def test_an_unknown_build(house: House, build: str) -> None:
    with pytest.raises(BadInput, match="there is no build"):
        completed(build, house.backends.artifacts)


@pytest.mark.parametrize("commit", ["", "abc-dirty"])
def test_what_nobody_could_build_again_is_refused(house: House, complete_build: CompleteBuild, commit: str) -> None:
    release = complete_build("apps/other").model_copy(update={"commit": commit})
    with pytest.raises(BadInput, match="is of a working tree"):
        house.releaser().release(release)
    assert house.ledger.records() == ()


def test_a_build_that_is_taken_back_meanwhile(
    house: House, complete_build: CompleteBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = complete_build(*IMAGES)
    folder = house.backends.artifacts.build(release.build)
    bring = type(house.backends.importer).import_image

    def taken_back(*arguments: Any, **named: Any) -> None:
        folder.overrule("canceled")  # with --force
        bring(*arguments, **named)

    monkeypatch.setattr(type(house.backends.importer), "import_image", taken_back)
    with pytest.raises(ReleaseFailed, match="was canceled"):
        house.releaser().release(release)
    assert set(house.latest(release).values()) == {None}


def test_a_build_that_expires_at_the_moment_of_its_release_is_not_released(
    house: House, complete_build: CompleteBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has begun then that could never be completed."""
    release = complete_build("apps/other")
    folder = house.backends.artifacts.build(release.build)
    decide = BuildFolder.decide

    def later(self: BuildFolder, *arguments: Any) -> Any:
        monkeypatch.setattr(BuildFolder, "decide", decide)
        assert cleanup(release.build, house.backends, "expired").clean
        return decide(self, *arguments)

    monkeypatch.setattr(BuildFolder, "decide", later)
    with pytest.raises(BadInput, match="has left staging"):
        house.releaser().release(release)
    assert house.ledger.records() == ()
    record = folder.read_build()
    assert record is not None
    assert record.status == "expired"


def test_a_build_is_kept_from_the_moment_of_its_release_on(
    house: House, complete_build: CompleteBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = complete_build("apps/other")
    append = Ledger.append
    reports = []

    def meanwhile(ledger: Ledger, record: ReleaseRecord) -> ReleaseRecord:
        reports.append(cleanup(release.build, house.backends, "expired"))
        return append(ledger, record)

    monkeypatch.setattr(Ledger, "append", meanwhile)
    house.releaser().release(release)
    assert [row.outcome for report in reports for row in report.rows] == ["kept", "kept"]
    assert set(house.latest(release).values()) == {release.images[0].staging.digest}


@pytest.fixture
def front(production: OciRegistry) -> Any:
    with FaultyRegistry(production.host) as front:
        yield front


@pytest.fixture
def faulty(house: House, front: FaultyRegistry) -> House:
    """Production behind a front that can fail."""
    house.move_production(front.host)
    return house


@pytest.mark.parametrize("image", IMAGES)
def test_production_that_is_down_in_the_middle(
    faulty: House, front: FaultyRegistry, complete_build: CompleteBuild, image: str
) -> None:
    first, second = complete_build(*IMAGES, tag="first"), complete_build(*IMAGES, tag="second")
    faulty.releaser().release(first)
    name = image.partition("/")[2]
    down = Fault("status", method="PUT", path=f"/{name}/manifests/second$", status=500)
    front.faults.append(down)
    with pytest.raises(ReleaseFailed, match="did not complete") as failed:
        faulty.releaser().release(second)
    assert f"aml-images release {second.build}" in failed.value.hint
    assert faulty.latest(first) == digests(first, latest=True)
    front.faults.remove(down)
    done = faulty.releaser().release(second)
    assert faulty.latest(second) == digests(second, latest=True)
    # Before is what was there before the first attempt.
    assert {c.name: c.before for c in done.record.changes if c.tag == LATEST} == digests(first, latest=True)
    assert {c.before for c in done.record.changes if c.tag != LATEST} == {None}
    assert [record.begun for record in faulty.ledger.records()] == [None, 1, None, 3]


def test_two_releases_at_once_are_one_after_the_other(house: House, complete_build: CompleteBuild) -> None:
    releases = [complete_build(*IMAGES, tag=f"t{n}") for n in range(3)]
    failures: list[FactoryError] = []

    def run(release: ReleaseJson) -> None:
        try:
            house.releaser(release.build).release(release)
        except FactoryError as error:  # an older build after a newer one
            failures.append(error)

    threads = [threading.Thread(target=run, args=(release,)) for release in releases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = house.ledger.records()
    assert [record.begun for record in records] == [None, 1, None, 3, None, 5][: len(records)]
    assert len(records) == 2 * (len(releases) - len(failures))
    assert all("is newer" in str(failure) for failure in failures)
    last = next(release for release in releases if release.build == records[-1].build)
    assert house.latest(last) == digests(last, latest=True)


@pytest.mark.parametrize(
    ("now", "may"),
    [
        (datetime(2026, 11, 23, 8, 0, tzinfo=UTC), True),  # Monday 09:00 in Berlin
        (datetime(2026, 11, 23, 7, 59, tzinfo=UTC), False),
        (datetime(2026, 11, 27, 11, 0, tzinfo=UTC), False),
        (datetime(2026, 11, 29, 12, 0, tzinfo=UTC), False),
    ],
)
def test_a_release_outside_of_its_window(house: House, now: datetime, may: bool) -> None:
    house.configure(windows="Mon-Thu 09:00-17:00; Fri 09:00-12:00", time_zone="Europe/Berlin")
    if may:
        check_window(house.settings, "", now)
        return
    with pytest.raises(BadInput, match="releases start Mon-Thu") as refused:
        check_window(house.settings, "", now)
    assert "--outside-window" in refused.value.hint
    check_window(house.settings, "it burns", now)


def test_why_it_was_outside_of_the_window_is_recorded(house: House, complete_build: CompleteBuild) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    house.configure(windows=f"{yesterday:%a} 00:00-24:00")
    release = complete_build("apps/other")
    with pytest.raises(BadInput):
        house.releaser().release(release)
    assert house.ledger.records() == ()
    assert house.releaser().release(release, outside_window="it burns").record.outside_window == "it burns"


def test_why_it_was_completed_outside_of_the_window_is_recorded(
    house: House, complete_build: CompleteBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> NoReturn:
        raise FactoryError("killed")

    release = complete_build("apps/other")
    with monkeypatch.context() as killing:
        killing.setattr(type(house.backends.importer), "import_image", killed)
        with pytest.raises(ReleaseFailed, match="killed"):
            house.releaser().release(release)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    house.configure(windows=f"{yesterday:%a} 00:00-24:00")
    record = house.releaser().release(release, outside_window="it burns").record
    assert (record.begun, record.outside_window) == (1, "it burns")
