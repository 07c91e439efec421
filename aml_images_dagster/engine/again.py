"""Doing work again: when an engine that was lost is back, and when a registry has too many requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from aml_images_dagster.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.engine.interface import LogLine

T = TypeVar("T")

PUSHED_AGAIN_AFTER_SECONDS = (1.0, 4.0, 15.0, 60.0)


def once_more_when_back(
    work: Callable[[], T],
    log: LogLine,
    *,
    ask: Callable[[], object],
    tidy: Callable[[], None],
    wait_seconds: float,
    lost: type[Unreachable] = Unreachable,
) -> T:
    """Do work; if the engine was lost meanwhile, wait until it answers and do it once more.

    Args:
        work: Raises `lost` if the engine was lost.
        log: Receives what happens.
        ask: Raises `Unreachable` while the engine is away.
        tidy: Removes what the first attempt has left.
        wait_seconds: How long to wait; then the first error is raised.
        lost: The error that tells that the engine was lost.
    """
    try:
        return work()
    except lost as error:
        log(f"{error}\nwaiting up to {wait_seconds:g} s for the engine to come back")
        until = time.monotonic() + wait_seconds
        while True:
            try:
                ask()
                break
            except Unreachable:
                if time.monotonic() > until:
                    raise error from None
                time.sleep(1)
        log("the engine is back: building once more")
        tidy()
        return work()
