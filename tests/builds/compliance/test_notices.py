"""Drift between an image and the lock of its folder: images with packages made by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.compliance.notices import (
    FoundComponents,
    NoticesResult,
    find_components,
    keys_of,
    notices_result,
)
from aml_images_dagster.builds.records import BaseImage
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.catalog.image import NOTICES_FILE, NOTICES_LOCK
from aml_images_dagster.catalog.notices import Component, NoticesLock, notices_text
from aml_images_dagster.errors import BadInput
from aml_images_dagster.trust.packages import Package
from tests.builds.in_memory import MemoryFactory, write, write_image
from tests.records import build_record, staged_image
from tests.trust.images import MemoryRegistry
from tests.trust.test_inventory import deb, dist_info

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.catalog.reference import Reference

IMAGE = "apps/a"
BUILD = "20261126.aaaaaaaa"
DOC = "usr/share/doc/{}/copyright"


def licensed(name: str, licence: str) -> dict[str, str]:
    return {DOC.format(name): f"Format: x\n\nFiles: *\nLicense: {licence}\n"}


LAYER = {
    "var/lib/dpkg/status": deb("libssl3", "3.0.11-1", Source="openssl") + deb("curl", "7.88"),
    **licensed("libssl3", "Apache-2.0"),
    **licensed("curl", "curl"),
    **dist_info("numpy", "2.4.6", "License-Expression: BSD-3-Clause"),
    **dist_info("joblib", "1.6", "License-Expression: BSD-3-Clause"),
}
"""`curl` is at line 3 of the lock and `openssl` at line 4; they are at lines 7 and 9 of the notices."""


class Folder:
    """A repository with one image, `apps/a`, that pins numpy, and a registry of layers."""

    def __init__(self, root: Path) -> None:
        self.repo = root / "repo"
        write_image(self.repo, IMAGE, "FROM base:1\nRUN true\n")
        write(self.path / "requirements.txt", "numpy==2.4.6\njoblib\n")
        write(self.path / NOTICES_FILE, "NOTICES\n")
        self.registry = MemoryRegistry()
        self.registry.host = "mirror.example"
        self.bases: dict[str, str] = {}
        self.world = MemoryFactory(self.repo, root / "home", self.bases)
        self.world.backends = replace(self.world.backends, staging=self.registry)  # type: ignore[arg-type]
        self.log: list[str] = []

    @property
    def path(self) -> Path:
        return self.repo / "images" / IMAGE

    def push(self, *layers: Mapping[str, Any]) -> Reference:
        return self.registry.push(*layers)

    def keep(self, components: tuple[Component, ...]) -> None:
        """What `aml-images notices --write` does."""
        lock = NoticesLock(components=components)
        write(self.path / NOTICES_LOCK, lock.text())
        write(self.path / NOTICES_FILE, notices_text("NOTICES", lock))

    def look(self, image: Reference, base: Reference | None = None, build: str = BUILD) -> FoundComponents:
        """What `aml-images notices` reads of a build."""
        bases = (BaseImage(reference="base:1", digest=base.digest),) if base else ()
        self.bases |= {"base:1": base.digest} if base else {}
        folder = self.world.backends.artifacts.build(build)
        folder.write_build(build_record(build, images=(IMAGE,)))
        folder.write_staged(staged_image(IMAGE, build, digest=image.digest, bases=bases))
        return self.found()

    def found(self, source: str = "") -> FoundComponents:
        where = load_source(self.world.settings)
        found = where.catalog.get(IMAGE)
        world = self.world
        return find_components(
            found, source, where.tree, where.catalog, world.backends, world.settings, self.log.append
        )

    def session(self, **fields: Any) -> BuildSession:
        return self.world.session(**fields)

    def check(self, image: Reference, base: Reference | None = None, **fields: Any) -> NoticesResult:
        """What the build of an image says."""
        bases = (BaseImage(reference="base:1", digest=base.digest),) if base else ()
        self.bases |= {"base:1": base.digest} if base else {}
        staged = staged_image(IMAGE, BUILD, digest=image.digest, bases=bases)
        result = notices_result(self.session(**fields), staged, self.log.append)
        assert result is not None
        return result


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def kept(folder: Folder) -> Folder:
    """A folder whose lock says what `LAYER` has."""
    folder.keep(folder.look(folder.push(LAYER)).components)
    return folder


def test_without_a_lock_no_layer_is_read(folder: Folder) -> None:
    staged = staged_image(IMAGE, BUILD, digest=folder.push(LAYER).digest)
    assert notices_result(folder.session(), staged, folder.log.append) is None
    assert folder.registry.opened == []


def test_components_are_source_packages_and_only_what_the_folder_pins_has_a_version(folder: Folder) -> None:
    assert folder.look(folder.push(LAYER)).components == (
        Component(type="deb", name="curl", licence="curl"),
        Component(type="deb", name="openssl", licence="Apache-2.0"),
        Component(type="pypi", name="joblib", licence="BSD-3-Clause"),
        Component(type="pypi", name="numpy", licence="BSD-3-Clause", version="2.4.6"),
    )


def test_an_image_that_has_what_the_lock_says_is_without_drift(kept: Folder) -> None:
    result = kept.check(kept.push(LAYER))
    assert (result.changes, result.is_blocked) == ((), False)
    assert result.found == f"the image has what {NOTICES_LOCK} says"


ADDED = {"var/lib/dpkg/status": LAYER["var/lib/dpkg/status"] + deb("git", "2.39"), **licensed("git", "GPL-2")}
REMOVED = {"var/lib/dpkg/status": deb("libssl3", "3.0.11-1", Source="openssl")}
OTHER_LICENCE = licensed("libssl3", "GPL-3+")
OTHER_PIN = {
    "usr/lib/python3/site-packages/.wh.numpy-2.4.6.dist-info": "",
    **dist_info("numpy", "2.5.0", "License-Expression: BSD-3-Clause"),
}


@pytest.mark.parametrize(
    ("layer", "said", "lock_line", "notices_line"),
    [
        (ADDED, "deb git was added (GPL-2.0-only)", 4, 9),
        (REMOVED, "deb curl was removed", 3, 7),
        (OTHER_LICENCE, "licence of deb openssl: Apache-2.0 → GPL-3.0-or-later", 4, 9),
        (OTHER_PIN, "version of pypi numpy: 2.4.6 → 2.5.0", 6, 16),
    ],
    ids=["added", "removed", "licence", "pinned version"],
)
def test_drift_is_named_with_its_line_in_both_files_and_fails_the_build(
    kept: Folder, layer: dict[str, str], said: str, lock_line: int, notices_line: int
) -> None:
    result = kept.check(kept.push(LAYER, layer))

    (change,) = result.changes
    assert (change.said, change.lock_line, change.notices_line) == (said, lock_line, notices_line)
    assert result.is_blocked
    failure = result.failure(IMAGE)
    assert failure.where == IMAGE
    assert f"{said} [{NOTICES_LOCK}:{lock_line}, {NOTICES_FILE}:{notices_line}]" in failure.what
    assert f"`aml-images notices {IMAGE} --write`" in failure.hint
    for file, line in ((NOTICES_LOCK, lock_line), (NOTICES_FILE, notices_line)):
        is_there = change.component.name in (kept.path / file).read_text().splitlines()[line - 1]
        assert is_there is (change.what != "added")


def test_what_comes_after_the_last_component_has_the_line_after_it(folder: Folder) -> None:
    several = " AND ".join(f"LicenseRef-number-{number}" for number in range(20))  # more than a line of the notices
    layer = LAYER | dist_info("yarl", "1", f"License-Expression: {several}")
    folder.keep(folder.look(folder.push(layer)).components)
    kept, last = folder, folder.push(layer, dist_info("zope", "1", "License-Expression: ZPL-2.1"))
    (change,) = kept.check(last).changes
    lines = [len((kept.path / file).read_text().splitlines()) for file in (NOTICES_LOCK, NOTICES_FILE)]
    assert (change.lock_line, change.notices_line) == (lines[0] - 1, lines[1] + 1)


def test_security_updates_and_versions_that_nobody_pins_are_no_drift(kept: Folder) -> None:
    updated = {
        "var/lib/dpkg/status": LAYER["var/lib/dpkg/status"].replace("3.0.11-1", "3.0.11-1+deb12u2"),
        "usr/lib/python3/site-packages/.wh.joblib-1.6.dist-info": "",
        **dist_info("joblib", "2.0", "License-Expression: BSD-3-Clause"),
    }
    assert kept.check(kept.push(LAYER, updated)).changes == ()


@pytest.mark.parametrize("kind", ["src", "nosrc"])
def test_an_update_of_an_rpm_is_the_same_component(kind: str) -> None:
    def key(release: str) -> frozenset[tuple[str, str]]:
        source = f"openssl-3.3.2-{release}.azl3.{kind}.rpm"
        package = Package("rpm", "openssl-libs", f"3.3.2-{release}.azl3", source=source)
        return keys_of([SimpleNamespace(packages=(package,))])  # type: ignore[list-item]

    assert key("1") == key("2") == {("rpm", "openssl")}


def test_what_the_base_brings_is_told_and_blocks_nothing(folder: Folder) -> None:
    base = folder.push(LAYER)
    folder.keep(folder.look(folder.push(LAYER, dist_info("own", "1")), base).components)
    newer = folder.push(LAYER, ADDED, OTHER_LICENCE)
    image = folder.push(LAYER, ADDED, OTHER_LICENCE, dist_info("own", "1"))
    result = folder.check(image, newer)

    assert [change.said for change in result.changes] == [
        "deb git was added (GPL-2.0-only)",
        "licence of deb openssl: Apache-2.0 → GPL-3.0-or-later",
    ]
    assert not result.is_blocked
    assert "2 of 2 of the base, which block nothing." in result.found

    own = folder.push(LAYER, ADDED, OTHER_LICENCE)
    (first, *_) = folder.check(own, newer).changes
    assert (first.said, folder.check(own, newer).is_blocked) == ("pypi own was removed", True)


def test_images_of_other_stages_are_no_base(folder: Folder) -> None:
    write(folder.path / "Dockerfile", "FROM base:1 AS build\nFROM scratch\nCOPY --from=build / /\n")
    image = folder.push(LAYER)
    assert not any(component.base for component in folder.look(image, image).components)


def test_a_package_that_the_folder_pins_is_its_own_though_the_base_has_it(folder: Folder) -> None:
    base = folder.push(LAYER)
    found = {component.name: component for component in folder.look(base, base).components}
    assert {name for name, component in found.items() if component.base} == {"curl", "openssl", "joblib"}
    assert found["numpy"].version == "2.4.6"


def test_pull_requests_are_told_and_not_stopped(kept: Folder) -> None:
    result = kept.check(kept.push(LAYER, ADDED), pull_request="7")
    assert (len(result.changes), result.is_blocked) == (1, False)


def test_a_setting_reports_only(kept: Folder) -> None:
    trust = kept.world.settings.trust.model_copy(update={"notices": "report"})
    kept.world.settings = kept.world.settings.model_copy(update={"trust": trust})
    result = kept.check(kept.push(LAYER, ADDED))
    assert (len(result.changes), result.is_blocked) == (1, False)


def test_after_a_build_that_drift_has_stopped_the_folder_is_brought_up_to_date_without_its_image(kept: Folder) -> None:
    image = kept.push(LAYER, ADDED)
    session = kept.session()
    session.begin()
    staged = staged_image(IMAGE, session.number, digest=image.digest)
    session.folder.write_staged(staged)
    stopped = notices_result(session, staged, kept.log.append)
    assert stopped is not None
    assert stopped.is_blocked
    kept.registry.manifests.clear()

    found = kept.found()
    assert found.of == session.number
    kept.keep(found.components)
    assert kept.check(kept.push(LAYER, ADDED)).changes == ()


def test_for_an_image_that_is_reused_no_layer_is_read_again(kept: Folder) -> None:
    image = kept.push(LAYER)
    first, second = kept.session(), kept.session()
    staged = staged_image(IMAGE, first.number, digest=image.digest)
    assert notices_result(first, staged, kept.log.append) == NoticesResult((), is_blocked=False)
    recorded = first.folder.read_components(IMAGE)
    assert recorded is not None
    kept.registry.manifests.clear()
    kept.keep(tuple(each for each in recorded.components if each.name != "curl"))

    result = notices_result(second, staged, kept.log.append)
    assert result is not None
    assert [change.said for change in result.changes] == ["deb curl was added (curl)"]
    assert second.folder.read_components(IMAGE) is not None


def test_builds_of_pull_requests_are_looked_at_only_by_their_number(kept: Folder) -> None:
    image, number = kept.push(LAYER, ADDED), "20261127.bbbbbbbb"
    folder = kept.world.backends.artifacts.build(number)
    folder.write_build(build_record(number, images=(IMAGE,), pull_request="7"))
    folder.write_staged(staged_image(IMAGE, number, digest=image.digest))

    assert kept.found().of == BUILD
    assert (kept.found(number).of, len(kept.found(number).components)) == (number, 5)
    with pytest.raises(BadInput, match="no build '2026112801' has this image"):
        kept.found("2026112801")
