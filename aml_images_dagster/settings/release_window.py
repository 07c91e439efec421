"""Days and hours in which a release may start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = "|".join(_DAYS)
_WINDOW = re.compile(rf"({_DAY})(?:-({_DAY}))? (\d\d):(\d\d)-(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class ReleaseWindow:
    """One window.

    Attributes:
        days: Days of the week, Monday is 0.
        start: First minute in it.
        end: First minute after it; None is midnight.
    """

    days: frozenset[int]
    start: time
    end: time | None

    @classmethod
    def parse(cls, text: str) -> ReleaseWindow:
        """Read `Mon-Fri 09:00-17:00`; one day alone is fine, days may pass Sunday, an end of 24:00 is midnight.

        Raises:
            ValueError: It is written in another way.
        """
        match = _WINDOW.fullmatch(text.strip())
        if not match:
            raise ValueError(f"{text.strip()!r} is no release window; write it as Mon-Fri 09:00-17:00")
        first, last = _DAYS.index(match[1]), _DAYS.index(match[2] or match[1])
        days = frozenset((first + offset) % 7 for offset in range((last - first) % 7 + 1))
        end = (int(match[5]), int(match[6]))
        try:
            window = cls(days, time(int(match[3]), int(match[4])), None if end == (24, 0) else time(*end))
        except ValueError:
            raise ValueError(f"{text.strip()!r} has an hour or a minute that no clock shows") from None
        if window.end is not None and window.end <= window.start:
            raise ValueError(f"{text.strip()!r} ends before it starts; write two windows to pass midnight")
        return window

    def contains(self, moment: datetime) -> bool:
        """Whether a moment, in the windows' time zone, is in it."""
        at = moment.time()
        return moment.weekday() in self.days and self.start <= at and (self.end is None or at < self.end)
