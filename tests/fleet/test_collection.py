"""What the fleet says of images comes from records, from production and from the registries of bases."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.compliance.patches import ProductionScan, ProductionScans
from aml_images_dagster.builds.records import BuildFailure
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.registry.interface import NoAnswer
from aml_images_dagster.vulnerabilities.vulnerability import Scan, Vulnerability
from tests.fleet.conftest import DEBIAN, NOW
from tests.records import begun_release, build_record, staged_image

if TYPE_CHECKING:
    from aml_images_dagster.catalog.reference import Reference
    from tests.fleet.conftest import FleetWorld


def concerns(world: FleetWorld, image: str = "base/a", **later: float) -> list[str]:
    return [concern.text for concern in world.row(image, **later).concerns]


def scanned(world: FleetWorld, digest: str, *found: Vulnerability, looked: bool = True) -> None:
    """Keep what a source has said of base/a."""
    scan = Scan("updates", found if looked else None, "" if looked else "this machine has no apt")
    ProductionScans(world.artifacts).write(ProductionScan.of("base/a", digest, NOW, [scan], None))


def update(days: int) -> Vulnerability:
    """A missing security update that is available since some days."""
    return Vulnerability(
        id="CVE-2026-1",
        package="openssl",
        type="deb",
        installed="1",
        fixed_in="2",
        severity="high",
        source="updates",
        fixed_since=(NOW - timedelta(days=days)).date(),
        is_security_update=True,
    )


def digest_of(world: FleetWorld) -> str:
    served = world.row().facts.served
    assert served
    return served.digest


def test_a_released_image_is_described(world: FleetWorld) -> None:
    world.add("base/a", owners=["team:base"], eol="2027-01-31")
    world.release(world.record(world.build(1)))
    released = world.record(world.build(2), size_bytes=900_000_000)
    world.release(released)
    row = world.row()
    assert row.facts.served
    assert row.facts.served.tag == released.release_tag
    assert row.facts.served.build == released.build
    assert row.facts.served.since
    assert row.facts.served.passed == 1
    assert row.facts.served.signed_by == "CN=image factory"
    assert row.age_days == 3  # it was built on 23 November
    assert row.facts.base.state == "current"
    assert row.facts.owners == ("team:base",)
    assert str(row.facts.eol) == "2027-01-31"


def test_an_image_that_was_never_released_is_not_released(world: FleetWorld) -> None:
    row = world.row()
    assert (row.status, row.facts.served, row.concerns) == ("unreleased", None, ())


def test_the_course_of_the_size_is_that_of_the_releases(world: FleetWorld) -> None:
    for number, size in ((1, 10), (2, 20), (3, 15)):
        world.release(world.record(world.build(number), size_bytes=size))
    world.record(world.build(4), size_bytes=99)
    served = world.row().facts.served
    assert served
    assert served.sizes == (10, 20, 15)


def test_after_a_rollback_the_size_is_that_of_what_is_served(world: FleetWorld) -> None:
    for number, size in ((1, 10), (2, 20)):
        world.release(world.record(world.build(number), size_bytes=size))
    world.roll_back()
    served = world.row().facts.served
    assert served
    assert served.sizes == (10,)


def test_it_is_in_production_since_its_digest_is_served(world: FleetWorld) -> None:
    first = world.release(world.record(world.build(1, {"base/a": "5"})))
    world.release(world.record(world.build(2, {"base/a": "5"})))
    served = world.row().facts.served
    assert served
    assert (served.build[-1], served.since) == ("2", first.when)


def test_what_was_not_asked_about_is_not_clean(world: FleetWorld) -> None:
    world.release(world.record(world.build(1)))
    assert concerns(world) == ["not yet scanned"]
    scanned(world, digest_of(world), looked=False)
    assert concerns(world) == ["nobody could look for vulnerabilities"]
    scanned(world, digest_of(world))
    assert (world.row().status, world.row().facts.looked) == ("good", ("updates",))


def test_a_scan_of_another_digest_says_nothing(world: FleetWorld) -> None:
    world.release(world.record(world.build(1)))
    scanned(world, f"sha256:{'9' * 64}")
    assert concerns(world) == ["not yet scanned"]


@pytest.mark.parametrize(
    ("days", "status", "said"),
    [(2, "good", []), (25, "watch", ["5 days left to patch"]), (31, "act", ["patch 1 day late"])],
)
def test_days_left_are_those_of_the_promise(world: FleetWorld, days: int, status: str, said: list[str]) -> None:
    world.release(world.record(world.build(1)))
    scanned(world, digest_of(world), update(days))
    assert (world.row().status, concerns(world)) == (status, said)


def test_a_changed_base_is_seen_and_asked_for_once(world: FleetWorld) -> None:
    world.add("base/b")
    world.release(world.record(world.build(1, ("base/a", "base/b"))))
    world.bases.digests[DEBIAN] = f"sha256:{'e' * 64}"
    assert "base has changed" in concerns(world)
    assert world.row().facts.base.detail == DEBIAN
    assert world.bases.asked == [DEBIAN] * 2  # once for each of the two collections


def test_a_base_that_nobody_has_is_not_current(world: FleetWorld) -> None:
    world.release(world.record(world.build(1)))
    world.bases.digests.clear()
    base = world.row().facts.base
    assert (base.state, base.detail) == ("unknown", f"{DEBIAN}: the registry has no such image")


def test_a_base_that_is_named_by_its_digest_is_not_asked_for(world: FleetWorld) -> None:
    pinned = {"reference": f"debian@sha256:{'d' * 64}", "digest": f"sha256:{'d' * 64}"}
    world.release(world.record(world.build(1), bases=(pinned,)))
    assert (world.row().facts.base.state, world.bases.asked) == ("pinned", [])


def test_a_base_that_is_the_name_of_two_images_is_not_current(world: FleetWorld) -> None:
    world.add("apps/a")
    ours = {"reference": "registry.example/a", "digest": f"sha256:{'d' * 64}"}
    world.release(world.record(world.build(1), bases=(ours,)))
    base = world.row().facts.base
    assert base.state == "unknown"
    assert "is the published name of" in base.detail


def test_a_wrong_policy_is_no_policy_that_allows_all(world: FleetWorld) -> None:
    (world.folder / "policy.yaml").write_text("severity: worst\n")
    with pytest.raises(BadInput, match=r"policy\.yaml"):
        world.fleet()


def test_an_image_is_behind_when_its_parent_was_released_without_it(world: FleetWorld) -> None:
    world.add("apps/b", "FROM registry.example/a\n")
    release = world.record(world.build(1, ("base/a", "apps/b")))
    parent = {"reference": "registry.example/a", "digest": release.images[0].staging.digest}
    world.artifacts.build(release.build).write_staged(
        staged_image("apps/b", release.build, digest=release.images[1].staging.digest, bases=(parent,))
    )
    world.release(release)
    assert world.row("apps/b").facts.base.state == "current"
    world.release(world.record(world.build(2)))
    base = world.row("apps/b").facts.base
    assert (base.state, base.detail) == ("behind", "base/a")


def test_production_that_was_changed_elsewhere_needs_a_person(world: FleetWorld) -> None:
    world.release(world.record(world.build(1)))
    world.production.put("public/azureml/a", "latest", f"sha256:{'9' * 64}")
    row = world.row()
    assert row.status == "act"
    assert "production was changed elsewhere" in concerns(world)


def test_an_image_that_was_released_before_the_factory_is_shown(world: FleetWorld) -> None:
    world.production.put("public/azureml/a", "latest", f"sha256:{'9' * 64}")
    assert "released elsewhere" in concerns(world)


def test_a_release_that_was_not_completed_needs_a_person(world: FleetWorld) -> None:
    release = world.record(world.build(1))
    digest = release.images[0].staging.digest
    moved = {"image": "base/a", "repository": "public/azureml/a", "tag": "latest", "before": None, "after": digest}
    world.ledger.append(begun_release(release.build, changes=(moved,)))
    assert concerns(world) == ["release of build 20261123.00000001 not completed"]
    assert world.row().status == "act"


def test_an_image_without_a_folder_is_shown_as_long_as_production_serves_it(world: FleetWorld) -> None:
    world.release(world.record(world.build(1, ("base/a", "base/gone"))))
    assert "in production without a folder" in concerns(world, "base/gone")
    world.production.tagged.pop(("public/azureml/gone", "latest"))
    assert [row.facts.image for row in world.fleet().rows] == ["base/a"]


def test_an_image_whose_folder_was_renamed_is_shown_once(world: FleetWorld) -> None:
    world.release(world.record(world.build(1, ("old/a",))))
    assert [(row.facts.image, row.facts.served is None) for row in world.fleet().rows] == [
        ("old/a", False),
        ("base/a", True),
    ]


def test_the_last_build_of_an_image_that_was_withdrawn(world: FleetWorld) -> None:
    for number in (1, 2):
        world.release(world.record(world.build(number)))
    world.roll_back()
    build = world.row().facts.last_build
    assert build
    assert (build.build, build.is_withdrawn, build.ending) == ("20261123.00000002", False, "succeeded")
    world.withdraw("v2")
    build = world.row().facts.last_build
    assert build
    assert (build.is_withdrawn, build.ending) == (True, "succeeded, withdrawn")


def test_the_last_build_is_no_build_of_a_pull_request(world: FleetWorld) -> None:
    world.record(world.build(1))
    later = build_record("20261124.0000000a", pull_request="7", created=NOW, images=("base/a",))
    world.artifacts.build(later.build).create_build(later)
    build = world.row().facts.last_build
    assert build
    assert (build.build, build.status, build.why) == ("20261123.00000001", "succeeded", "Dockerfile changed")


@pytest.mark.parametrize(
    ("step", "urgency"), [("base__a_staged", "act"), ("base__b_tested", "watch"), ("release_files", "act"), ("", "act")]
)
def test_a_failed_build_needs_the_owner_of_the_image_that_failed(world: FleetWorld, step: str, urgency: str) -> None:
    failure = BuildFailure(step=step, message="no space left")
    build = build_record("20261124.0000000a", status="failed", images=("base/a", "base/b"), failure=failure)
    world.artifacts.build(build.build).create_build(build)
    row = world.row()
    assert row.facts.last_build
    assert row.facts.last_build.failure == "no space left"
    assert [concern.urgency for concern in row.concerns] == [urgency]


def test_an_image_near_its_end_of_life_is_watched_and_past_it_acted_on(world: FleetWorld) -> None:
    world.add("base/a", eol="2026-12-01")
    world.release(world.record(world.build(1)))
    scanned(world, digest_of(world))
    assert concerns(world) == ["end of life in 5 days"]
    assert "past its end of life" in concerns(world, days=5)


def test_a_record_that_cannot_be_read_leaves_the_rest(world: FleetWorld) -> None:
    release = world.record(world.build(1))
    world.release(release)
    (world.artifacts.build(release.build).image("base/a") / "evidence.json").write_text("{")
    served = world.row().facts.served
    assert served
    assert (served.passed, served.signed_by) == (1, "")


def test_production_that_refuses_for_one_image_is_no_empty_production(
    world: FleetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("base/b")

    def digest(reference: Reference) -> str | None:
        if reference.repository.endswith("/b"):
            raise Unreachable("it refuses: 403")
        return None

    monkeypatch.setattr(world.production, "digest", digest)
    row = world.row("base/b")
    assert (row.status, row.facts.unknown) == ("watch", "it refuses: 403")


def test_production_that_does_not_answer_at_all_is_not_asked_about_every_image(
    world: FleetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        world.add(f"many/image{number}")
    asked = []

    def digest(reference: Reference) -> str | None:
        asked.append(reference)
        raise NoAnswer("nothing answers", where="prod.example")

    monkeypatch.setattr(world.production, "digest", digest)
    with pytest.raises(NoAnswer):
        world.fleet()
    assert len(asked) < 61


def test_production_is_asked_for_many_images_at_once(world: FleetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(15):
        world.add(f"many/image{number}")
    together = threading.Barrier(16, timeout=20)

    def digest(_: Reference) -> str | None:
        together.wait()
        return None

    monkeypatch.setattr(world.production, "digest", digest)
    assert len(world.fleet().rows) == 16
