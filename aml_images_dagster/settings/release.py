"""Settings of release, and the days and hours in which one may start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from aml_images_dagster.settings.group import Group, Minutes, Seconds, check_name_pattern

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


class ReleaseSettings(Group):
    """Releases into production."""

    windows: str = Field(
        default="",
        description=(
            "Days and hours in which a release may start, separated by ';': Mon-Thu 09:00-17:00; Fri 09:00-12:00; "
            "default: at any time."
        ),
    )
    time_zone: str = Field(default="UTC", description="Time zone of the windows, e.g. America/Los_Angeles.")
    wait_minutes: Minutes = Field(
        default=30, ge=0, description="How long a release waits for another one that is running."
    )
    after_release: Literal["offer", "build"] = Field(
        default="offer",
        description="Images FROM a released one: offer to build them, or build them by a sensor.",
    )
    major_changes: Literal["block", "report"] = Field(
        default="block",
        description="Changes that may break users, such as another minor version of Python: refuse to release them "
        "until a person accepts them, or only report them.",
    )
    public_names: str = Field(
        default="",
        description=(
            "Public name of a released image, with {name} and {family}, e.g. mcr.microsoft.com/azureml/{name}; "
            "default: promotion is not watched."
        ),
    )
    promotion_timeout_minutes: Minutes = Field(
        default=60, gt=0, description="How long to wait until the public registry serves a release."
    )
    promotion_poll_seconds: Seconds = Field(
        default=15, gt=0, description="Time between two polls of the public registry, in seconds."
    )
    who: str = Field(
        default="", description="Name of the person who releases, for release records; default: user@host."
    )

    kubernetes_service_account: str = Field(
        default="",
        description="Service account of the pods that release, roll back and withdraw, where each run is a pod; "
        "default: that of all runs.",
    )

    @field_validator("windows")
    @classmethod
    def _are_windows(cls, value: str) -> str:
        _windows(value)
        return value

    @field_validator("public_names")
    @classmethod
    def _names_every_image(cls, value: str) -> str:
        return check_name_pattern(value, "mcr.microsoft.com/azureml/{name}") if value else value

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("no such time zone; write it as Europe/Berlin, or UTC") from None
        return value

    @property
    def release_windows(self) -> tuple[ReleaseWindow, ...]:
        """The windows; none means at any time."""
        return _windows(self.windows)


def _windows(text: str) -> tuple[ReleaseWindow, ...]:
    return tuple(ReleaseWindow.parse(part) for part in text.split(";") if part.strip())
