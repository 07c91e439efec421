"""Notifications of what has happened, and of what is not as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.notifications.sensor import notifications_sensor
from aml_images_dagster.notifications.rules import RULES_FILE

if TYPE_CHECKING:
    from aml_images_dagster.defs.run import Factory


def definitions(factory: Factory) -> dg.Definitions:
    """The sensor that sends them, if the repository has rules."""
    has_rules = RULES_FILE in factory.source.tree.files()
    return dg.Definitions(sensors=[notifications_sensor(factory)] if has_rules else [])
