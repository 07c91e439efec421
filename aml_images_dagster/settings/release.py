"""Settings of release."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from aml_images_dagster.settings.group import Group
from aml_images_dagster.settings.name_pattern import check_name_pattern
from aml_images_dagster.settings.release_window import ReleaseWindow


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
    wait_minutes: float = Field(
        default=30, ge=0, description="How long a release waits for another one that is running."
    )
    after_release: Literal["offer", "build"] = Field(
        default="offer",
        description="Images FROM a released one: offer to build them, or build them by a sensor.",
    )
    public_names: str = Field(
        default="",
        description=(
            "Public name of a released image, with {name} and {family}, e.g. mcr.microsoft.com/azureml/{name}; "
            "default: promotion is not watched."
        ),
    )
    promotion_timeout_minutes: float = Field(
        default=60, gt=0, description="How long to wait until the public registry serves a release."
    )
    promotion_poll_seconds: float = Field(
        default=15, gt=0, description="Time between two polls of the public registry, in seconds."
    )
    who: str = Field(
        default="", description="Name of whoever releases, in release records; default: user@host of the process."
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
