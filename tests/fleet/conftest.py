"""Image folders, releases in memory, and the records that their builds leave."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.records import EvidenceRecord, TestedImage
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.errors import BadInput
from aml_images_dagster.fleet.collection import collect_fleet
from aml_images_dagster.registry.resolution import ResolvedBase
from tests.builds.in_memory import write_image
from tests.records import passed_scenario, staged_image
from tests.release.memory import MemoryWorld

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from aml_images_dagster.fleet.fleet import Fleet, Row
    from aml_images_dagster.release.release_json import ReleaseJson

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DEBIAN = "docker.io/library/debian:12"


class Bases:
    """The registries of external bases.

    Attributes:
        digests: What they serve now; what is not in it they do not have.
        asked: What was asked for, once for each question.
    """

    def __init__(self) -> None:
        self.digests = {DEBIAN: f"sha256:{'d' * 64}"}
        self.asked: list[str] = []

    def observe(self, references: Iterable[str]) -> Mapping[str, ResolvedBase | BadInput]:
        self.asked += references
        return {each: self._answer(each) for each in self.asked}

    def _answer(self, reference: str) -> ResolvedBase | BadInput:
        if reference not in self.digests:
            return BadInput("the registry has no such image", where=reference)
        return ResolvedBase(reference, self.digests[reference], reference)


class FleetWorld(MemoryWorld):
    """Releases in memory, with the folders of their images and the records of their builds."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.bases = Bases()
        self.backends.resolver = self.bases
        self.settings = self.settings.model_copy(
            update={"docker_files_path": "images", "published_as": ("registry.example/{name}",)}
        )
        self.add("base/a")

    def add(self, image: str, dockerfile: str = f"FROM {DEBIAN}\n", **settings: Any) -> None:
        """An image folder."""
        write_image(self.folder, image, dockerfile)
        if settings:
            (self.folder / "images" / image / "image.json").write_text(json.dumps(settings))

    def record(self, release: ReleaseJson, **fields: Any) -> ReleaseJson:
        """Write what a build leaves of each of its images: staged, tested, signed."""
        folder = self.artifacts.build(release.build)
        for each in release.images:
            image, digest = f"{each.family}/{each.name}", each.staging.digest
            base = {"reference": DEBIAN, "digest": f"sha256:{'d' * 64}"}
            usual = {"digest": digest, "bases": (base,), "size_bytes": 800_000_000, "because": ("Dockerfile changed",)}
            folder.write_staged(staged_image(image, release.build, **usual | fields))
            passed = passed_scenario("runs", release.build)
            folder.write_tested(TestedImage(image=image, digest=digest, scenarios=(passed,)))
            folder.write_evidence(
                EvidenceRecord(
                    image=image,
                    digest=digest,
                    artifacts=(),
                    signed_by="CN=image factory",
                    is_test_key=False,
                    packages=1,
                    without_licence=0,
                    attached_in=release.build,
                )
            )
        return release

    def fleet(self, **later: float) -> Fleet:
        """The fleet, now or later."""
        return collect_fleet(load_source(self.settings), self.backends, self.settings, NOW + timedelta(**later))

    def row(self, image: str = "base/a", **later: float) -> Row:
        """One image of it."""
        return next(row for row in self.fleet(**later).rows if row.facts.image == image)


@pytest.fixture
def world(tmp_path: Path) -> FleetWorld:
    return FleetWorld(tmp_path)
