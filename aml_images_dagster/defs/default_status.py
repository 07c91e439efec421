"""Whether a sensor or schedule that starts builds runs before anybody has touched its switch in the UI.

Off on a laptop, on in production; the setting `automation` says so. What takes builds back always runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


def sensor_status(settings: Settings) -> dg.DefaultSensorStatus:
    """Of a sensor that starts builds."""
    return dg.DefaultSensorStatus.RUNNING if settings.is_automatic else dg.DefaultSensorStatus.STOPPED


def schedule_status(settings: Settings) -> dg.DefaultScheduleStatus:
    """Of a schedule."""
    return dg.DefaultScheduleStatus.RUNNING if settings.is_automatic else dg.DefaultScheduleStatus.STOPPED


def is_running(instance: dg.DagsterInstance, sensor: str, settings: Settings) -> bool:
    """Whether a sensor that starts builds is switched on."""
    states = [state for state in instance.all_instigator_state() if state.name == sensor]
    return states[-1].is_running if states else settings.is_automatic
