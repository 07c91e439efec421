"""What the process of a step says for itself, in the log beside its events: nothing that its events say as well."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
from typing_extensions import override

from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping


@dg.logger(None, "Messages, and why a step failed; no other events.")
def console_log(_: dg.InitLoggerContext) -> logging.Logger:
    """In place of Dagster's own logger of this name, which prints each event with run, process and step."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain())
    handler.addFilter(_is_shown)
    logger = logging.Logger("aml_images", logging.INFO)
    logger.addHandler(handler)
    return logger


class _Plain(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        about = _about(record)
        event: dg.DagsterEvent | None = about.get("dagster_event")
        said = str(about.get("orig_message") or record.getMessage())
        if event is not None and event.is_step_failure:
            failed = event.step_failure_data.user_failure_data
            said = (failed.description if failed else None) or event.step_failure_data.error_display_string
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return printable(f"{level}{said}")


def _is_shown(record: logging.LogRecord) -> bool:
    event: dg.DagsterEvent | None = _about(record).get("dagster_event")
    return event is None or record.levelno >= logging.ERROR


def _about(record: logging.LogRecord) -> Mapping[str, Any]:
    """What Dagster adds to each record: the message as it was given, and the event that it is about."""
    about: Mapping[str, Any] = getattr(record, "dagster_meta", {})
    return about
