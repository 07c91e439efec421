"""A release that is killed between any two requests that change production, and completed by the next one.

All the while a watcher looks at every `:latest`: it always points to a tested image and is there as a whole.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.ledger import LATEST
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry.oci import read_manifest
from tests.emulators.faulty_registry import FaultyRegistry
from tests.release.conftest import House, digests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aml_images_dagster.registry.oci import OciRegistry
    from aml_images_dagster.release.release_json import ReleaseJson

pytestmark = pytest.mark.engine

IMAGES = ("apps/hello", "apps/other", "tools/shell")
ENOUGH = 40


class Watcher:
    """Looks at every `:latest` again and again, and whenever it is told to.

    Args:
        registry: Production.
        tested: What each may point to.

    Attributes:
        looks: How often it has looked at all of them.
        wrong: What it has seen that may not be.
    """

    def __init__(self, registry: OciRegistry, tested: Mapping[str, set[str]]) -> None:
        self._registry = registry
        self._tested = tested
        self._whole: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.looks = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def look(self) -> None:
        for name, tested in list(self._tested.items()):
            repository, _, tag = name.rpartition(":")
            reference = Reference(self._registry.host, repository, tag)
            try:
                served = self._registry.digest(reference)
            except Unreachable:  # this registry refuses to read a tag at the moment in which it is written
                continue
            if served not in tested:
                self.wrong.append(f"{name} was {served}")
            elif served not in self._whole and not self._is_whole(reference):
                self.wrong.append(f"{name} was {served}, of which backends are missing")
        self.looks += 1

    def _watch(self) -> None:
        while not self._end.wait(0.03):
            self.look()

    def _is_whole(self, reference: Reference) -> bool:
        manifest = self._registry.existing(reference)
        document = read_manifest(manifest)
        blobs = [document["config"], *document["layers"]]
        self._whole.add(manifest.digest)
        return all(self._registry.has_blob(reference.repository, blob["digest"]) for blob in blobs)


class Cut(FaultyRegistry):
    """Production behind a front that stops at the n-th request that changes it, and says so."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.at: int | None = None
        self.changes = 0
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def arm(self, at: int | None) -> None:
        self.at, self.changes = at, 0
        self.reached.clear()
        self.go_on.clear()

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Any:
        if method == "PUT" and "/manifests/" in path:
            self.changes += 1
            if self.at is not None and self.changes > self.at:
                self.reached.set()
                self.go_on.wait(60)
                self.closing.wait(0.2)  # the one who asked is dead
        return None


@pytest.fixture
def cut(production: OciRegistry) -> Any:
    with Cut(production.host) as cut:
        yield cut


def start(house: House, build: str) -> int:
    """The command, in a copy of this process."""
    child = os.fork()
    if child:
        return child
    null = os.open(os.devnull, os.O_RDWR)
    os._exit(house.repository.be_the_command(("release", build), {}, null, null))


def test_every_cut_point(
    house: House, cut: Cut, production: OciRegistry, complete_build: Callable[..., ReleaseJson]
) -> None:
    house.move_production(cut.host)
    first = complete_build(*IMAGES, tag="t0")
    house.releaser().release(first)
    tested = {name: {digest} for name, digest in digests(first, latest=True).items()}
    points = 0
    with Watcher(production, tested) as watcher:
        for at in range(ENOUGH):
            release = complete_build(*IMAGES, tag=f"t{at + 1}")
            before = house.latest(release)
            for name, digest in digests(release, latest=True).items():
                tested[name].add(digest)
            cut.arm(at)
            child = start(house, release.build)
            killed = wait_for_cut(cut, child)
            if not killed:
                break
            points += 1
            watcher.look()  # nothing changes now: what production is between two changes is seen in any case
            cut.arm(None)
            assert house.backends.artifacts.build(release.build).root.exists()
            done = house.releaser().release(release)
            everything = digests(release, latest=False) | digests(release, latest=True)
            assert {name: house.served(name) for name in everything} == everything
            assert {c.name: c.before for c in done.record.changes if c.tag == LATEST} == before
            records = house.ledger.records()
            assert [r.build for r in records if r.done][-1] == release.build
            assert sum(r.build == release.build for r in records) == 2
    # By digest and by tag into each repository, and once more by digest and as the latest.
    assert points == 4 * len(IMAGES)
    assert watcher.wrong == []
    assert watcher.looks > points
    print(f"{points} cut points, {watcher.looks} looks at {len(tested)} :latest")


def wait_for_cut(cut: Cut, child: int) -> bool:
    """Kill the command when it comes to the cut; whether it did, or ended before."""
    while not cut.reached.wait(0.02):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True
