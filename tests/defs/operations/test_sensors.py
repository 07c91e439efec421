"""The sensors ask for cleanups, and runs do them."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.housekeeping.cleanup import read_report
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.process import named, this_process
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.defs import operations
from aml_images_dagster.defs.keys import CLEANUP_JOB, asset_key
from aml_images_dagster.defs.run import FACTORY, Factory
from aml_images_dagster.defs.run_state import PROCESS_TAG
from aml_images_dagster.errors import Unreachable
from tests.records import build_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine


class Operations:
    """The sensors on an instance where one build has failed, with an image in staging.

    Attributes:
        folder: The failed build.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        repository: ImageRepository,
        settings: Settings,
        backends: Backends,
        push: Callable[[str, str], Reference],
    ) -> None:
        self.instance = instance
        self.backends = backends
        factory = Factory(settings, load_source(settings), backends)
        resources = dg.Definitions(resources={FACTORY: factory})
        self._definitions = dg.Definitions.merge(operations.definitions(factory), resources)
        image = repository.image("apps/other")
        self._failed = failing_run(image, instance)
        record = instance.get_run_record_by_id(self._failed.run_id)
        assert record is not None
        build = build_number(self._failed.run_id, record.create_timestamp)
        self.folder: BuildFolder = backends.artifacts.build(build)
        self.folder.write_build(
            build_record(build, run_id=self._failed.run_id, created=record.create_timestamp, images=(image,))
        )
        family, name = image.split("/")
        self._pushed = Reference(backends.staging.host, family, push(family, f"{name}--{build}").tag)

    def sensor(self, name: str) -> dg.SensorDefinition:
        return next(sensor for sensor in self._definitions.sensors or () if sensor.name == name)

    def janitor(self) -> dg.RunRequest | dg.SkipReason:
        return self.sensor("janitor")(dg.build_sensor_context(instance=self.instance))

    def status_sensor(self, status: str) -> dg.RunRequest:
        (event,) = [e for e in self._failed.all_events if e.event_type is dg.DagsterEventType.RUN_FAILURE]
        context = dg.build_run_status_sensor_context(
            sensor_name=f"cleanup_{status}_builds",
            dagster_event=event,
            dagster_instance=self.instance,
            dagster_run=self._failed.dagster_run,
        )
        return self.sensor(f"cleanup_{status}_builds")(context)

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Do what a sensor has asked for."""
        job = self._definitions.resolve_job_def(CLEANUP_JOB)
        return job.execute_in_process(run_config=request.run_config, instance=self.instance)

    def let_a_minute_pass(self) -> None:
        """Since the last cleanup, which is not tried again at once."""
        report = read_report(self.folder)
        assert report is not None
        before = report.model_copy(update={"finished": report.finished - timedelta(minutes=1)})
        (self.folder.root / "cleanup.json").write_bytes(before.model_dump_json().encode())

    @property
    def is_staged(self) -> bool:
        return self.backends.staging.digest(self._pushed) is not None

    @property
    def status(self) -> str:
        record = self.folder.read_build()
        assert record is not None
        return record.status


def failing_run(image: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    @dg.asset(key=asset_key(image, "staged"))
    def staged() -> None:
        raise dg.Failure("it broke")

    return dg.materialize([staged], instance=instance, raise_on_error=False)


@pytest.fixture
def scene(
    image_repository: ImageRepository,
    settings: Settings,
    backends: Backends,
    push_new_image: Callable[[str, str], Reference],
) -> Iterator[Operations]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Operations(instance, image_repository, settings, backends, push_new_image)


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_run_that_ended_badly_is_cleaned_up_by_a_run(scene: Operations, status: str) -> None:
    request = scene.status_sensor(status)
    assert scene.is_staged, "a sensor removes nothing"
    done = scene.run(request)
    assert not scene.is_staged
    assert scene.status == "failed", "the run itself says how it ended"
    (shown,) = done.asset_materializations_for_node("operations__cleanup")
    assert shown.metadata["builds"].value == 1
    assert shown.metadata["not_clean"].value == 0
    assert done.get_asset_check_evaluations()[0].passed
    assert scene.run(request).success, "again, it finds nothing"


def test_the_janitor_asks_once_for_what_is_due(scene: Operations) -> None:
    request = scene.janitor()
    assert isinstance(request, dg.RunRequest)
    assert scene.is_staged, "a sensor removes nothing"
    waiting = scene.instance.create_run_for_job(dg.GraphDefinition(CLEANUP_JOB).to_job())
    answer = scene.janitor()
    assert isinstance(answer, dg.SkipReason)
    assert answer.skip_message == "a cleanup is starting or running"
    scene.instance.add_run_tags(waiting.run_id, {PROCESS_TAG: this_process()})
    assert isinstance(scene.janitor(), dg.SkipReason)
    with subprocess.Popen(["true"]) as ended:
        killed = named(ended.pid)
    scene.instance.add_run_tags(waiting.run_id, {PROCESS_TAG: killed})
    assert isinstance(scene.janitor(), dg.RunRequest), "nobody is left who does it"
    scene.instance.delete_run(waiting.run_id)
    assert scene.run(request).success
    assert not scene.is_staged
    assert scene.janitor() == dg.SkipReason("nothing to clean up")


def test_what_cannot_be_cleaned_up_yet_starts_no_run_and_is_red_when_it_lasts(
    scene: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unreachable("the registry does not answer", where="registry")

    with monkeypatch.context() as patch:
        patch.setattr(scene.backends.staging, "tags", away)
        request = scene.janitor()
        assert isinstance(request, dg.RunRequest), "its record, its jobs and its files need no registry"
        scene.run(request)
        assert scene.status == "failed"
        scene.let_a_minute_pass()
        for _ in range(2):
            answer = scene.janitor()
            assert isinstance(answer, dg.SkipReason)
            assert "the registry does not answer" in str(answer.skip_message)
        with pytest.raises(Unreachable, match="the registry does not answer"):
            scene.janitor()
    request = scene.janitor()
    assert isinstance(request, dg.RunRequest)
    scene.run(request)
    assert not scene.is_staged
