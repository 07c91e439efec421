"""Which sensors run from the start, and what their ticks say when something cannot be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.defs.ticks import schedule_status, sensor_status, skips_while_unreachable
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({}, False),
        ({"automation": "on"}, True),
        ({"profile": "azure"}, True),
        ({"profile": "azure", "automation": "off"}, False),
    ],
)
def test_default_status(tmp_path: Path, options: dict[str, str], runs: bool) -> None:
    settings = load_settings(repo=tmp_path, **options)
    assert (sensor_status(settings) is dg.DefaultSensorStatus.RUNNING) is runs
    assert (schedule_status(settings) is dg.DefaultScheduleStatus.RUNNING) is runs


class Polled:
    """A sensor that reaches what it polls, or not.

    Attributes:
        fault: What it raises; None when all is well.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.fault: Exception | None = None
        self._instance = instance

        @skips_while_unreachable
        def polls(context: dg.SensorEvaluationContext) -> dg.SensorResult:
            if self.fault is not None:
                raise self.fault
            return dg.SensorResult(skip_reason="all is well", cursor="its own")

        self._sensor = dg.sensor(target="*")(polls)

    def tick(self) -> str:
        return str(self._sensor.evaluate_tick(dg.build_sensor_context(self._instance)).skip_message)


@pytest.fixture
def polled() -> Iterator[Polled]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Polled(instance)


@pytest.mark.parametrize("fault", [Unreachable("it does not answer"), TimeoutError("it does not answer")])
def test_what_cannot_be_reached_is_skipped_twice_and_then_red(polled: Polled, fault: Exception) -> None:
    polled.fault = fault
    assert [polled.tick(), polled.tick()] == ["it does not answer"] * 2
    for _ in range(2):
        with pytest.raises(type(fault), match="it does not answer"):
            polled.tick()


def test_a_tick_that_gets_through_begins_the_count_again(polled: Polled) -> None:
    fault = Unreachable("it does not answer")
    told = []
    for polled.fault in (fault, fault, None, fault, fault):
        told.append(polled.tick())
    assert told == ["it does not answer"] * 2 + ["all is well"] + ["it does not answer"] * 2


def test_what_is_wrong_is_red_at_once(polled: Polled) -> None:
    polled.fault = BadInput("the setting is wrong")
    with pytest.raises(BadInput):
        polled.tick()
