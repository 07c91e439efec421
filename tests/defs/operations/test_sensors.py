"""The sensors that clean up what failed and cancelled runs left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.source import open_source
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.defs.keys import asset_key
from aml_images_dagster.defs.operations.sensors import cleanup_sensors
from aml_images_dagster.defs.run import Workshop
from tests.records import build_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine


def failing_run(image: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    @dg.asset(key=asset_key(image, "staged"))
    def staged() -> None:
        raise dg.Failure("it broke")

    return dg.materialize([staged], instance=instance, raise_on_error=False)


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_run_that_ended_badly_is_cleaned_up(
    image_repository: ImageRepository,
    settings: Settings,
    parts: Parts,
    push_new_image: Callable[[str, str], Reference],
    status: str,
) -> None:
    sensors = {sensor.name: sensor for sensor in cleanup_sensors(Workshop(settings, open_source(settings), parts))}
    with dg.DagsterInstance.ephemeral() as instance:
        result = failing_run(image_repository.image("apps/other"), instance)
        record = instance.get_run_record_by_id(result.run_id)
        assert record is not None
        build = build_number(result.run_id, record.create_timestamp)
        family, name = image_repository.image("apps/other").split("/")
        parts.artifacts.build(build).write_build(
            build_record(build, run_id=result.run_id, created=record.create_timestamp, images=(f"{family}/{name}",))
        )
        pushed = push_new_image(family, f"{name}--{build}")
        (event,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.RUN_FAILURE]
        context = dg.build_run_status_sensor_context(
            sensor_name=f"cleanup_{status}_builds",
            dagster_event=event,
            dagster_instance=instance,
            dagster_run=result.dagster_run,
        )
        answers = [sensors[f"cleanup_{status}_builds"](context) for _ in range(2)]
    assert answers[0].skip_message == f"{build}: 1 found, nothing left"
    assert str(answers[1].skip_message).endswith("nothing left")
    assert parts.staging.digest(Reference(parts.staging.host, family, pushed.tag)) is None
    written = parts.artifacts.build(build).read_build()
    assert written is not None
    assert written.status == status
