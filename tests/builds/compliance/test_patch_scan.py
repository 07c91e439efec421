"""The scan of production: what is asked about, and which rebuild brings what an image lacks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.compliance import patch_scan
from aml_images_dagster.builds.compliance.patch_scan import ProductionScanner
from aml_images_dagster.builds.compliance.patches import Rebuild
from aml_images_dagster.builds.ledger import LATEST, Ledger, TagChange
from aml_images_dagster.builds.records import BaseImage, PassedImage, StagedImage, TestedImage
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.vulnerabilities.vulnerability import Scan, Vulnerability
from tests.builds.in_memory import MemoryFactory, write, write_image
from tests.records import begun_release, build_record, staged_image, write_withdrawal
from tests.trust.images import MemoryRegistry
from tests.trust.test_inventory import deb, dist_info

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aml_images_dagster.builds.compliance.patches import ProductionScan
    from aml_images_dagster.catalog.reference import Reference

NOW = datetime(2026, 11, 26, 6, tzinfo=UTC)
DEBIAN = {"etc/os-release": 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'}
BUILD, NEXT = "20261101.aaaaaaaa", "20261125.bbbbbbbb"
LINE = "openssl 1 → 2 (CVE-2026-1)"


def _packages(**versions: str) -> dict[str, str]:
    return {"var/lib/dpkg/status": "".join(deb(name, version) for name, version in versions.items())}


class Registry(MemoryRegistry):
    """A registry of layers with tags."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host
        self.tags: dict[tuple[str, str], str] = {}

    def digest(self, reference: Reference) -> str | None:
        tagged = self.tags.get((reference.repository, reference.tag))
        return tagged if reference.tag else super().digest(reference)


class World:
    """base/a is FROM debian:12, app/b is FROM it. A source knows fixes by package; it says whom it was asked about."""

    def __init__(self, repo: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repo = repo
        write_image(repo, "base/a", "FROM debian:12\nRUN apt-get update && \\\n  apt-get install -y openssl\n")
        write_image(repo, "app/b", "FROM registry.example/a\nRUN true\n")
        self.bases: dict[str, str] = {}
        self.factory = MemoryFactory(repo, home, self.bases)
        self.staging, self.production = Registry("mirror.example"), Registry("production.example")
        backends = replace(self.factory.backends, staging=self.staging, production=self.production)  # type: ignore[arg-type]
        self.backends = backends
        self.fixed: dict[str, str] = {"openssl": "2"}
        self.asked: list[str] = []
        self.away = self.unreadable = ""
        self.since = date(2026, 11, 20)
        monkeypatch.setattr(patch_scan, "scan", self._scan)

    def _scan(self, inventory: Any, image: Reference, _settings: object) -> tuple[Scan, ...]:
        self.asked.append(image.digest)
        if self.away or image.digest == self.unreadable:
            return (Scan("updates", None, self.away, failed=True),)
        return (
            Scan(
                "updates",
                tuple(
                    Vulnerability(
                        "CVE-2026-1",
                        package.name,
                        package.type,
                        package.version,
                        self.fixed[package.name],
                        "unknown",
                        "updates",
                        fixed_since=self.since,
                        is_security_update=True,
                    )
                    for package in inventory.packages
                    if self.fixed.get(package.name, package.version) != package.version
                ),
            ),
        )

    def base(self, **versions: str) -> BaseImage:
        """debian:12 as its registry serves it from now on."""
        pushed = self.staging.push(DEBIAN, _packages(**versions))
        self.bases["debian:12"] = pushed.digest
        return BaseImage(reference="debian:12", digest=pushed.digest)

    def release(self, image: str, layers: Mapping[str, str], *bases: BaseImage, build: str = BUILD) -> BaseImage:
        """What production serves as the latest of an image from now on; as a base of others."""
        pushed = self.production.push(DEBIAN, layers, title=image)
        repository = f"public/azureml/{image.partition('/')[2]}"
        self.production.tags[repository, LATEST] = pushed.digest
        self.backends.artifacts.build(build).write_staged(self._staged(image, pushed, bases, build))
        change = TagChange(image=image, repository=repository, tag=LATEST, before=None, after=pushed.digest)
        ledger = Ledger(self.backends.artifacts)
        ledger.complete(ledger.append(begun_release(build, changes=(change,))), "somebody")
        return BaseImage(reference=f"registry.example/{image.partition('/')[2]}", digest=pushed.digest)

    def stage(
        self, image: str, layers: Mapping[str, str], *bases: BaseImage, build: str = NEXT, **record: Any
    ) -> StagedImage:
        """The newest build of an image that has passed; with what its record says, if that is not of a complete one."""
        pushed = self.staging.push(DEBIAN, layers, title=image)
        staged = self._staged(image, pushed, bases, build)
        self.passes(staged)
        fields = {"status": "succeeded", "commit": "c" * 40, **record}
        self.backends.artifacts.build(build).write_build(build_record(build, images=(image,), **fields))
        return staged

    def passes(self, staged: StagedImage) -> None:
        tested = TestedImage(image=staged.image, digest=staged.digest, scenarios=())
        self.backends.artifacts.write_passed(PassedImage(staged=staged, tested=tested))

    @staticmethod
    def _staged(image: str, pushed: Reference, bases: tuple[BaseImage, ...], build: str) -> StagedImage:
        return staged_image(image, build, digest=pushed.digest, bases=bases)

    def scan(self, image: str = "base/a", before: ProductionScan | None = None) -> ProductionScan:
        source = load_source(self.factory.settings)
        scanner = ProductionScanner(source, self.backends, self.factory.settings)
        found = scanner.scan(source.catalog.images[image], before, NOW)
        assert found is not None
        return found

    def rebuilds(self, image: str = "base/a") -> tuple[Rebuild, ...]:
        return self.scan(image).rebuilds


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path / "repo", tmp_path / "home", monkeypatch)


def _rebuild(image: str, *, forced: bool, line: str = LINE) -> Rebuild:
    return Rebuild(image=image, forced=forced, fixes=(line,))


def test_what_production_does_not_serve_is_not_asked_about(world: World) -> None:
    source = load_source(world.factory.settings)
    scanner = ProductionScanner(source, world.backends, world.factory.settings)

    assert scanner.scan(source.catalog.images["base/a"], None, NOW) is None
    assert world.asked == []


def test_an_image_that_lacks_nothing_needs_no_rebuild(world: World) -> None:
    world.release("base/a", _packages(openssl="2"), world.base(libc6="1"))

    scan = world.scan()

    assert (scan.fixable, scan.rebuilds, scan.waits_for) == ((), (), "")
    assert [(each.source, each.looked) for each in scan.sources] == [("updates", True)]


def test_what_run_installs_comes_with_a_forced_rebuild(world: World) -> None:
    world.release("base/a", _packages(libc6="1", openssl="1"), world.base(libc6="1"))

    assert world.rebuilds() == (_rebuild("base/a", forced=True),)


def test_what_comes_with_the_base_comes_with_a_newer_base(world: World) -> None:
    write_image(world.repo, "base/a", "FROM debian:12\nRUN true\n")
    world.release("base/a", _packages(openssl="1"), world.base(openssl="1"))
    assert world.rebuilds() == (), "the base has no fix yet"

    world.base(openssl="2")

    assert world.rebuilds() == (_rebuild("base/a", forced=False),)


def test_a_newer_base_without_the_fix_is_no_reason(world: World) -> None:
    write_image(world.repo, "base/a", "FROM debian:12\nRUN true\n")
    world.release("base/a", _packages(openssl="1"), world.base(openssl="1"))

    world.base(openssl="1", libc6="9")

    assert world.rebuilds() == ()


@pytest.mark.parametrize(
    "run", ["apt-get -y upgrade", "apt-get update && apt-get dist-upgrade -y", "apt install openssl"]
)
def test_what_run_renews_of_its_base_comes_with_a_forced_rebuild(world: World, run: str) -> None:
    write_image(world.repo, "base/a", f"FROM debian:12\nRUN {run}\n")
    world.release("base/a", _packages(openssl="1"), world.base(openssl="1"))

    assert world.rebuilds() == (_rebuild("base/a", forced=True),)


@pytest.mark.parametrize("run", ["apt-get install openssl-tools", "pip install --upgrade openssl", "true # apt"])
def test_another_package_in_run_renews_nothing(world: World, run: str) -> None:
    write_image(world.repo, "base/a", f"FROM debian:12\nRUN {run}\n")
    world.release("base/a", _packages(openssl="1"), world.base(openssl="1"))

    assert world.rebuilds() == ()


def test_a_newer_base_that_a_source_could_not_look_into_is_no_reason(world: World) -> None:
    write_image(world.repo, "base/a", "FROM debian:12\nRUN true\n")
    world.release("base/a", _packages(openssl="1"), world.base(openssl="1"))
    world.unreadable = world.base(openssl="2").digest

    assert world.rebuilds() == ()


def test_what_comes_from_a_parent_is_repaired_there(world: World) -> None:
    parent = world.release("base/a", _packages(libc6="1", openssl="1"), world.base(libc6="1"))
    world.release("app/b", _packages(libc6="1", openssl="1"), parent)

    assert world.rebuilds("app/b") == (_rebuild("base/a", forced=True),)


def test_an_image_whose_parent_was_released_with_the_fix_is_built_on_it(world: World) -> None:
    base = world.base(libc6="1")
    old = world.release("base/a", _packages(libc6="1", openssl="1"), base)
    world.release("app/b", _packages(libc6="1", openssl="1"), old)

    world.release("base/a", _packages(libc6="1", openssl="2"), base, build=NEXT)

    assert world.rebuilds("app/b") == (_rebuild("app/b", forced=False),)


def test_a_parent_that_is_built_with_the_fix_is_to_be_released_first(world: World) -> None:
    base = world.base(libc6="1")
    old = world.release("base/a", _packages(libc6="1", openssl="1"), base)
    world.release("app/b", _packages(libc6="1", openssl="1"), old)

    world.stage("base/a", _packages(libc6="1", openssl="2"), base)

    assert world.rebuilds("app/b") == ()


def test_a_build_that_has_the_fix_waits_for_its_release(world: World) -> None:
    base = world.base(libc6="1")
    world.release("base/a", _packages(libc6="1", openssl="1"), base)

    world.stage("base/a", _packages(libc6="1", openssl="2"), base)

    scan = world.scan()
    assert (scan.rebuilds, scan.waits_for) == ((), NEXT)
    assert scan.remedy == f"Build {NEXT} has what it lacks: release it."


def test_a_build_that_has_reused_the_image_is_the_one_to_release(world: World) -> None:
    """The one that made it may have left staging since."""
    base = world.base(libc6="1")
    world.release("base/a", _packages(libc6="1", openssl="1"), base)
    made = world.stage("base/a", _packages(libc6="1", openssl="2"), base, build="20261124.cccccccc")
    world.passes(made.model_copy(update={"reference": made.reference.replace("20261124.cccccccc", NEXT)}))
    world.backends.artifacts.build(NEXT).write_build(build_record(NEXT, status="succeeded", commit="c" * 40))

    assert world.scan().waits_for == NEXT


@pytest.mark.parametrize("record", [{"status": "partial"}, {"status": "expired"}, {"commit": "abc-dirty"}])
def test_a_build_that_cannot_be_released_is_not_waited_for(world: World, record: dict[str, str]) -> None:
    base = world.base(libc6="1")
    world.release("base/a", _packages(libc6="1", openssl="1"), base)
    world.stage("base/a", _packages(libc6="1", openssl="2"), base, **record)

    scan = world.scan()
    assert (scan.rebuilds, scan.waits_for) == ((_rebuild("base/a", forced=True),), "")


def test_an_image_that_was_withdrawn_is_not_waited_for(world: World) -> None:
    base = world.base(libc6="1")
    world.release("base/a", _packages(libc6="1", openssl="1"), base)
    staged = world.stage("base/a", _packages(libc6="1", openssl="2"), base)
    write_withdrawal(world.backends.artifacts, "base/a", staged.digest, tag="v2")

    scan = world.scan()
    assert (scan.rebuilds, scan.waits_for) == ((_rebuild("base/a", forced=True),), "")


def test_what_is_found_in_production_does_not_depend_on_other_registries(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.release("base/a", _packages(libc6="1", openssl="1"), world.base(libc6="1"))
    before = world.scan()

    def no_answer(*_: object) -> None:
        raise Unreachable("docker.io does not answer")

    monkeypatch.setattr(patch_scan, "find_base", no_answer)

    scans = world.scan(), world.scan(before=before)
    assert [(scan.failed, scan.fixable) for scan in scans] == [({}, before.fixable)] * 2
    assert [scan.rebuilds for scan in scans] == [(), (_rebuild("base/a", forced=True),)]


def test_a_build_that_lacks_the_fix_as_well_is_not_waited_for(world: World) -> None:
    base = world.base(libc6="1")
    world.release("base/a", _packages(libc6="1", openssl="1"), base)

    world.stage("base/a", _packages(libc6="2", openssl="1"), base)

    scan = world.scan()
    assert (scan.rebuilds, scan.waits_for) == ((_rebuild("base/a", forced=True),), "")


def test_a_package_of_no_distribution_is_no_matter_of_a_rebuild(world: World) -> None:
    world.fixed = {"requests": "3"}
    world.release("base/a", dist_info("requests", "2"), world.base(libc6="1"))

    scan = world.scan()

    assert [each.package for each in scan.fixable] == ["requests"]
    assert (scan.rebuilds, scan.remedy) == ((), "")


def test_what_the_policy_excepts_is_no_reason_to_rebuild(world: World) -> None:
    world.release("base/a", _packages(libc6="1", openssl="1"), world.base(libc6="1"))
    exception = "{id: CVE-2026-1, reason: not reachable in a job, expires: 2026-11-30}"
    write(world.repo / "policy.yaml", f"exceptions: [{exception}]\n")

    scan = world.scan()

    assert len(scan.fixable) == 1
    assert scan.rebuilds == ()


def test_a_source_that_cannot_look_is_a_failed_scan_and_no_rebuild(world: World) -> None:
    world.release("base/a", _packages(openssl="1"), world.base(libc6="1"))
    world.away = "the mirror does not answer"

    scan = world.scan()

    assert scan.failed == {"updates": "the mirror does not answer"}
    assert (scan.fixable, scan.rebuilds) == ((), ())


@pytest.mark.parametrize("error", [BadInput("no such layer"), Unreachable("it does not answer")])
def test_an_image_that_cannot_be_read_is_a_failed_scan(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world.release("base/a", _packages(openssl="1"), world.base(libc6="1"))

    def unreadable(*_: object) -> None:
        raise error

    before = world.scan()
    monkeypatch.setattr(patch_scan, "read_inventory", unreadable)

    scan = world.scan(before=before)
    assert "the image cannot be read" in scan.failed["updates"]
    assert (scan.fixable, scan.rebuilds) == (before.fixable, before.rebuilds), "what is known stays"
    assert scan.rebuilds == (_rebuild("base/a", forced=True),)


def test_images_that_share_a_base_ask_about_it_once(world: World) -> None:
    for image in ("base/a", "base/c"):
        write_image(world.repo, image, "FROM debian:12\nRUN true\n")
        world.release(image, _packages(openssl="1"), world.base(openssl="1"))
    newer = world.base(openssl="2")
    source = load_source(world.factory.settings)
    scanner = ProductionScanner(source, world.backends, world.factory.settings)

    for image in ("base/a", "base/c"):
        scanner.scan(source.catalog.images[image], None, NOW)

    assert world.asked.count(newer.digest) == 1


def test_layers_that_were_read_before_are_not_read_again(world: World) -> None:
    world.release("base/a", _packages(libc6="1", openssl="1"), world.base(libc6="1"))
    world.scan()
    read = [*world.production.opened, *world.staging.opened]

    assert world.rebuilds() == (_rebuild("base/a", forced=True),)
    assert read
    assert [*world.production.opened, *world.staging.opened] == read
