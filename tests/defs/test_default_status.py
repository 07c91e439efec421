"""What starts builds by itself is off on a laptop and on in production, unless the setting says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.defs.default_status import schedule_status, sensor_status
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
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
