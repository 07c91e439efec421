"""An interrupt that is remembered, whoever takes the exception for their own."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@dataclass
class Interrupt:
    """Whether a person has interrupted the command.

    Attributes:
        seen: Whether the signal has come.
    """

    seen: bool = False

    def check(self) -> None:
        """Stop here if the signal has come.

        Raises:
            KeyboardInterrupt: It has, also if that was raised before.
        """
        if self.seen:
            raise KeyboardInterrupt


@contextmanager
def remembered_interrupt() -> Iterator[Interrupt]:
    """Note SIGINT as well as raise it: Python drops what is raised in a hook of a fork or in a finalizer."""
    interrupt = Interrupt()

    def note(_number: int, _frame: FrameType | None) -> None:
        interrupt.seen = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
