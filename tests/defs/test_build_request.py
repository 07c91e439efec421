"""Release numbers of builds that start automatically, and what follows a release, one build at a tick."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.builds.ledger import Ledger, TagChange
from aml_images_dagster.builds.records import BuildRecord
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs import main_branch
from aml_images_dagster.defs.keys import BUILD_JOB
from aml_images_dagster.defs.main_branch import MainBranch
from aml_images_dagster.defs.release.sensors import after_release_sensor
from aml_images_dagster.defs.request import PULL_REQUEST_TAG, RESOURCE, build_config, build_keys
from aml_images_dagster.defs.run import Factory
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
from tests.builds.test_ledger import record
from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Scene:
    """A repository of tools/shell and apps/hello FROM it, whose releases start builds of what follows."""

    def __init__(self, repository: ImageRepository, instance: dg.DagsterInstance) -> None:
        settings = load_settings(
            repo=repository.root,
            published_as=["registry.example/{name}"],
            release={"after_release": "build"},
            artifacts=str(repository.root / "artifacts"),
        )
        self.repository = repository
        self.instance = instance
        self.factory = Factory(settings, load_source(settings), backends_for(settings))
        self.artifacts = self.factory.backends.artifacts
        self.sensor = after_release_sensor(self.factory, MainBranch(self.factory))
        self.cursor: str | None = None

    def release(self, build: str) -> None:
        change = TagChange(image="tools/shell", repository="shell", tag="latest", before=None, after=f"sha256:{build}")
        ledger = Ledger(self.artifacts)
        ledger.complete(ledger.append(record(build=build, changes=(change,))), "somebody")

    def tick(self) -> Any:
        result = self.sensor(dg.build_sensor_context(instance=self.instance, cursor=self.cursor))
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return result

    def number(self, request: dg.RunRequest) -> int:
        return int(request.run_config["resources"][RESOURCE]["config"]["release_num"])

    def run(self, status: dg.DagsterRunStatus, config: dict[str, Any], image: str = "apps/hello", **tags: str) -> None:
        keys = frozenset(build_keys([image]))
        self.instance.add_run(
            dg.DagsterRun(BUILD_JOB, status=status, run_config=config, asset_selection=keys, tags=tags)
        )


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(main_branch, "with_needed_parents", lambda images, *_: dict(images))  # asks no registry
    repository = ImageRepository.create(tmp_path / "repository")
    with dg.DagsterInstance.ephemeral() as instance:
        scene = Scene(repository, instance)
        scene.tick()
        yield scene


def test_every_release_starts_a_build_with_a_number_of_its_own(scene: Scene) -> None:
    scene.release("20261123.00000001")
    scene.release("20261123.00000002")
    numbers = []
    for build in ("20261123.00000001", "20261123.00000002"):
        (request,) = scene.tick().run_requests
        assert request.asset_selection == build_keys(["apps/hello"])
        assert request.tags["aml-images/after-release"] == build
        numbers.append(scene.number(request))
        scene.run(dg.DagsterRunStatus.NOT_STARTED, dict(request.run_config))
    assert numbers == [1, 2]
    assert not scene.tick().run_requests


def test_runs_that_have_yet_to_begin_count(scene: Scene) -> None:
    scene.run(dg.DagsterRunStatus.NOT_STARTED, build_config(release_num=4))
    scene.run(dg.DagsterRunStatus.FAILURE, build_config(release_num=6))
    scene.run(dg.DagsterRunStatus.NOT_STARTED, build_config(release_num=7), image="apps/other")
    scene.run(dg.DagsterRunStatus.NOT_STARTED, build_config(release_num=8), **{PULL_REQUEST_TAG: "1"})
    scene.release("20261123.00000001")
    assert scene.number(scene.tick().run_requests[0]) == 5


def test_a_run_of_a_person_is_the_first_of_its_day(scene: Scene) -> None:
    scene.run(dg.DagsterRunStatus.STARTED, {})
    scene.release("20261123.00000001")
    assert scene.number(scene.tick().run_requests[0]) == 2


def test_complete_builds_of_the_day_count(scene: Scene) -> None:
    now = datetime.now(UTC)
    for day, number in ((now - timedelta(days=1), 8), (now, 2)):
        about = {
            "build": f"{day:%Y%m%d}.00000001",
            "run_id": "",
            "status": "succeeded",
            "commit": "1234567",
            "source": "",
        }
        about |= {"created": day, "release_tag": f"{day:%Y%m%d}.v{number}", "images": ["apps/hello"]}
        scene.artifacts.build(about["build"]).write_build(BuildRecord.model_validate(about))
    scene.release("20261123.00000001")
    assert scene.number(scene.tick().run_requests[0]) == 3


def test_a_damaged_record_costs_no_tick(scene: Scene) -> None:
    folder = scene.artifacts.build(f"{datetime.now(UTC):%Y%m%d}.0badf00d")
    write_atomically(folder.root / "build.json", b"{")
    scene.tick()
    scene.release("20261123.00000001")
    (request,) = scene.tick().run_requests
    assert scene.number(request) == 1
