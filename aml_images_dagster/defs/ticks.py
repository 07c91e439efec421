"""Common behavior of sensors and schedules: their default status, and ticks that cannot reach a service."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, TypeVar

import dagster as dg

from aml_images_dagster.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick

    from aml_images_dagster.settings import Settings

_IN_A_ROW = 3

Result = TypeVar("Result")


def sensor_status(settings: Settings) -> dg.DefaultSensorStatus:
    """Of a sensor that starts builds: off on a laptop, on in production; the setting `automation` says so."""
    return dg.DefaultSensorStatus.RUNNING if settings.is_automatic else dg.DefaultSensorStatus.STOPPED


def schedule_status(settings: Settings) -> dg.DefaultScheduleStatus:
    """Of a schedule, likewise."""
    return dg.DefaultScheduleStatus.RUNNING if settings.is_automatic else dg.DefaultScheduleStatus.STOPPED


def is_running(instance: dg.DagsterInstance, sensor: str, settings: Settings) -> bool:
    """Whether a sensor that starts builds is switched on."""
    states = [state for state in instance.all_instigator_state() if state.name == sensor]
    return states[-1].is_running if states else settings.is_automatic


def last_ticks(instance: dg.DagsterInstance) -> Iterator[tuple[InstigatorState, InstigatorTick]]:
    """The last completed tick of each sensor and schedule that is on and has had one."""
    for state in instance.all_instigator_state():
        if state.is_running:
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=_IN_A_ROW)
            yield from [(state, tick) for tick in ticks if tick.is_completed][:1]


def skips_while_unreachable(
    evaluate: Callable[[dg.SensorEvaluationContext], Result],
) -> Callable[[dg.SensorEvaluationContext], Result | dg.SkipReason]:
    """A tick that cannot reach a service is skipped with the reason; the third time in a row it fails.

    Any other error fails the tick at once. The number of skips in a row is kept in the instance, because the
    cursor is the sensor's own.

    Args:
        evaluate: The sensor's evaluation, named as the sensor.
    """

    @wraps(evaluate)
    def tick(context: dg.SensorEvaluationContext) -> Result | dg.SkipReason:
        key = f"aml-images/unreachable/{context.repository_name or ''}/{evaluate.__name__}"
        memory = context.instance.daemon_cursor_storage
        before = int(memory.get_cursor_values({key}).get(key, 0))
        try:
            result = evaluate(context)
        except (Unreachable, ConnectionError, TimeoutError) as fault:
            memory.set_cursor_values({key: str(before + 1)})
            if before + 1 >= _IN_A_ROW:
                raise
            return dg.SkipReason(str(fault))
        if before:
            memory.set_cursor_values({key: "0"})
        return result

    return tick
