"""Rollback and withdrawal, between the real registries."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import pytest

from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.release.rollback import plan_rollback, roll_back
from aml_images_dagster.release.withdrawal import withdraw
from tests.release.conftest import House, digests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.release.release_json import ReleaseJson

    KilledIn = Callable[[type, str], AbstractContextManager[None]]

pytestmark = pytest.mark.engine

IMAGE = "tools/shell"


class Production:
    """Three releases of one image, the last of them the latest."""

    def __init__(self, house: House, complete_build: Callable[..., ReleaseJson]) -> None:
        self.house = house
        self.image = house.repository.image(IMAGE)
        self.builds = [complete_build(IMAGE, tag=f"v{n}", age=timedelta(hours=9 - n)) for n in (1, 2, 3)]
        for build in self.builds:
            house.releaser().release(build)
        (self.latest_name,) = digests(self.builds[0], latest=True)

    @property
    def latest(self) -> str | None:
        return self.house.served(self.latest_name)

    def digest(self, number: int) -> str:
        return self.builds[number - 1].images[0].staging.digest

    def roll_back(self, to: str = "", reason: str = "it is broken") -> ReleaseRecord | None:
        house = self.house
        return roll_back(self.image, to, reason, house.backends, house.settings, "somebody", house.told.append)

    def withdraw(self, tag: str, reason: str = "a hole") -> ReleaseRecord | None:
        house = self.house
        return withdraw(self.image, tag, reason, house.backends, house.settings, "somebody", house.told.append)

    def tag(self, number: int) -> str | None:
        return self.house.served(self.latest_name.replace(":latest", f":v{number}"))


@pytest.fixture
def production_of_three(house: House, complete_build: Callable[..., ReleaseJson]) -> Production:
    return Production(house, complete_build)


def test_back_to_the_release_before(production_of_three: Production) -> None:
    three = production_of_three
    record = three.roll_back()
    assert three.latest == three.digest(2)
    assert record is not None
    assert (record.action, record.release_tag, record.reason) == ("rollback", "v2", "it is broken")
    assert [(c.name, c.before, c.after) for c in record.changes] == [
        (three.latest_name, three.digest(3), three.digest(2))
    ]
    assert three.house.ledger.records()[-2].begun is None
    three.roll_back()
    assert three.latest == three.digest(1)
    with pytest.raises(BadInput, match="has no earlier release"):
        three.roll_back()


def test_to_a_release_by_name_and_forth_again(production_of_three: Production) -> None:
    three = production_of_three
    three.roll_back("v1")
    assert three.latest == three.digest(1)
    assert three.roll_back("v1") is None
    three.roll_back("v3")
    assert three.latest == three.digest(3)
    assert {three.tag(n) for n in (1, 2, 3)} == {three.digest(n) for n in (1, 2, 3)}


def test_a_release_after_a_roll_back(production_of_three: Production) -> None:
    three = production_of_three
    three.roll_back("v1")
    three.house.releaser().release(three.builds[2])
    assert three.latest == three.digest(3)


def test_what_was_rolled_back_from_is_not_gone_back_to(
    production_of_three: Production, complete_build: Callable[..., ReleaseJson]
) -> None:
    three = production_of_three
    three.roll_back()  # v3 is broken
    three.house.releaser().release(complete_build(IMAGE, tag="v4"))
    three.roll_back()  # v4 is, too
    assert three.latest == three.digest(2)
    three.roll_back()
    assert three.latest == three.digest(1)


def test_what_took_the_place_of_an_unknown_image(production_of_three: Production) -> None:
    """A drop has brought it before it was recorded: what was served last before that is known all the same."""
    three = production_of_three
    repository = three.latest_name.rpartition(":")[0]
    registry = three.house.backends.production
    three.roll_back("v1")
    registry.tag(Reference(registry.host, repository, digest=three.digest(3)), "latest")
    three.house.releaser().release(three.builds[2])
    three.roll_back()
    assert three.latest == three.digest(1)


def test_a_release_after_a_roll_back_takes_latest_no_further_back(
    production_of_three: Production, complete_build: Callable[..., ReleaseJson]
) -> None:
    three = production_of_three
    three.roll_back("v2")
    with pytest.raises(BadInput, match="which is newer"):
        three.house.releaser().release(complete_build(IMAGE, tag="v0", age=timedelta(days=1)))
    assert three.latest == three.digest(2)


def test_a_plan_changes_nothing(production_of_three: Production) -> None:
    three = production_of_three
    version, change = plan_rollback(three.image, "", three.house.backends)
    assert (version.tag, change.before, change.after) == ("v2", three.digest(3), three.digest(2))
    assert three.latest == three.digest(3)
    assert len(three.house.ledger.records()) == 6


@pytest.mark.parametrize("to", ["v4", "latest"])
def test_a_release_that_never_was(production_of_three: Production, to: str) -> None:
    with pytest.raises(BadInput, match=f"has no release '{to}'") as refused:
        production_of_three.roll_back(to)
    assert "v3, v2, v1" in refused.value.hint


def test_an_image_that_was_never_released(production_of_three: Production) -> None:
    with pytest.raises(BadInput, match="has no recorded release"):
        plan_rollback("apps/other", "", production_of_three.house.backends)


def test_a_release_whose_tag_serves_something_else(production_of_three: Production) -> None:
    three = production_of_three
    backends = three.house.backends
    version, _ = plan_rollback(three.image, "v1", backends)
    other = Reference(backends.production.host, version.repository, digest=three.digest(3))
    backends.production.tag(other, "v1")
    with pytest.raises(BadInput, match="was released"):
        three.roll_back("v1")
    assert three.latest == three.digest(3)


@pytest.fixture
def killed_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str], AbstractContextManager[None]]:
    """A context in which everything ends as soon as it comes to a method."""

    def killed(*_: object, **__: object) -> NoReturn:
        raise FactoryError("killed")

    @contextmanager
    def killed_in(where: type, method: str) -> Iterator[None]:
        with monkeypatch.context() as killing, pytest.raises(FactoryError, match="killed"):
            killing.setattr(where, method, killed)
            yield

    return killed_in


def test_a_roll_back_that_was_killed_is_completed(production_of_three: Production, killed_in: KilledIn) -> None:
    three = production_of_three
    with killed_in(Ledger, "complete"):
        three.roll_back("v1")
    assert three.latest == three.digest(1)
    assert len(History(three.house.ledger.records()).unfinished()) == 1
    record = three.roll_back("v1", "it is very broken")
    assert record is not None
    assert (record.reason, record.changes[0].before) == ("it is very broken", three.digest(3))
    assert History(three.house.ledger.records()).unfinished() == []


def test_a_roll_back_that_was_killed_early_is_not_completed_from_another_release(
    production_of_three: Production, killed_in: KilledIn
) -> None:
    three = production_of_three
    with killed_in(OciRegistry, "tag"):
        three.roll_back("v1")
    three.roll_back("v2")
    record = three.roll_back("v1", "another reason")
    assert record is not None
    assert (record.reason, record.changes[0].before) == ("another reason", three.digest(2))


def test_withdraw(production_of_three: Production) -> None:
    three = production_of_three
    record = three.withdraw("v2")
    assert three.tag(2) is None
    assert (three.tag(1), three.tag(3), three.latest) == (three.digest(1), three.digest(3), three.digest(3))
    assert record is not None
    assert (record.action, record.release_tag, record.reason) == ("withdrawal", "v2", "a hole")
    assert three.withdraw("v2") is None
    with pytest.raises(BadInput, match="it was withdrawn"):
        three.roll_back("v2")
    three.roll_back()
    assert three.latest == three.digest(1)
    with pytest.raises(BadInput, match="was withdrawn by somebody"):
        three.house.releaser().release(three.builds[1])


def test_a_tag_whose_withdrawal_was_killed_is_not_released_again(
    production_of_three: Production, killed_in: KilledIn
) -> None:
    three = production_of_three
    with killed_in(Ledger, "complete"):
        three.withdraw("v2")
    with pytest.raises(BadInput, match="is being withdrawn by somebody"):
        three.house.releaser().release(three.builds[1])
    assert three.tag(2) is None
    record = three.withdraw("v2", "two holes")
    assert record is not None
    assert record.reason == "two holes"


def test_what_is_the_latest_is_not_withdrawn(production_of_three: Production) -> None:
    three = production_of_three
    with pytest.raises(BadInput, match="latest points to") as refused:
        three.withdraw("v3")
    assert f"aml-images rollback {three.image}" in refused.value.hint
    assert three.tag(3) == three.digest(3)


def test_a_tag_that_was_never_released_is_not_withdrawn(production_of_three: Production) -> None:
    with pytest.raises(BadInput, match="has no release 'latest'"):
        production_of_three.withdraw("latest")
