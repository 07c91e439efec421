"""The sensor that sends notifications. What it has sent, and what no service has accepted yet, is its cursor."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import ValidationError

from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.defs.notifications.events import (
    CHANGES,
    FAILURES,
    failed_builds,
    failing_checks,
    failing_sensors,
    production_changes,
    watched_checks,
)
from aml_images_dagster.defs.ticks import skips_while_unreachable
from aml_images_dagster.errors import BadInput
from aml_images_dagster.notifications.channels import Channels
from aml_images_dagster.notifications.notification import NotificationState
from aml_images_dagster.notifications.rules import RULES_FILE, read_rules
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from aml_images_dagster.defs.run import Factory

_NAME = "notifications"


def notifications_sensor(factory: Factory) -> dg.SensorDefinition:
    """Each event is sent once; what a service does not accept is sent again at the next tick."""
    watched = watched_checks(factory)
    owners = {image.id: image.settings.owners for image in factory.source.catalog.images.values()}

    @dg.sensor(
        name=_NAME,
        description=f"Sends notifications by the rules of {RULES_FILE}.",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    @skips_while_unreachable
    def notifications(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance, state = context.instance, _read(context.cursor)
        source = factory.source
        rules = read_rules(source.tree if factory.settings.source_commit else WorkingTree(source.tree.root))
        failures, at_failure = failed_builds(instance, factory, state.positions.get(FAILURES))
        changes, at_change = production_changes(factory, state.positions.get(CHANGES))
        conditions = [*failing_checks(instance, factory, watched), *failing_sensors(instance, factory)]
        state = state.model_copy(update={"positions": {FAILURES: at_failure, CHANGES: at_change}})
        state = state.with_new([*failures, *changes], conditions, rules, owners, datetime.now(UTC))
        left = state.deliver(Channels.of(factory.settings.repo), context.log.warning)
        sent = len(state.pending) - len(left.pending)
        said = f"{counted(sent, 'message')} sent" if sent else "nothing to send"
        if left.pending:
            said += f"; {counted(len(left.pending), 'message')} sent again at the next tick"
        return dg.SensorResult(skip_reason=said, cursor=left.model_dump_json())

    return notifications


def _read(cursor: str | None) -> NotificationState:
    try:
        return NotificationState.model_validate_json(cursor) if cursor else NotificationState()
    except ValidationError:
        raise BadInput(
            "the cursor is not one of this sensor",
            where=_NAME,
            hint="Clear it in the UI: the next tick starts from what is there then.",
        ) from None
