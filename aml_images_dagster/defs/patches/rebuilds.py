"""When an image is rebuilt for fixes: one build at a time, backed off when it fails or does not bring them.

The state is a value that the sensor keeps between two ticks. Whether a build has brought the fixes is known from the
next scan of production, which looks at the newest build of each image as well.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Phase = Literal["due", "building", "backing off", "paused"]

_WAIT = timedelta(days=1)
"""After a rebuild in vain; doubled after each further one. Mirrors lag behind, and a promise has days."""
_MOST_TRIES = 3


class WantedRebuild(BaseModel):
    """An image that lacks fixes which a rebuild is to bring.

    Attributes:
        fixes: What it is to bring.
        build: Run key of the build that was started for it and of which nothing is known yet; else empty.
        tries: Builds for these fixes that have failed or have not brought them, one after the other.
        tried: When the last of them was found to be in vain, UTC.
        why: What was wrong with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixes: tuple[str, ...]
    build: str = ""
    tries: int = 0
    tried: AwareDatetime | None = None
    why: str = ""

    def wanting(self, fixes: Sequence[str]) -> WantedRebuild:
        """After a scan: a fix that was not wanted before is a new chance."""
        if set(fixes) <= set(self.fixes):
            return self.model_copy(update={"fixes": tuple(fixes)})
        return WantedRebuild(fixes=tuple(fixes), build=self.build)

    def started(self, build: str) -> WantedRebuild:
        """After a build was asked for."""
        return self.model_copy(update={"build": build})

    def in_vain(self, why: str, now: datetime) -> WantedRebuild:
        """After its build has failed, or has not brought the fixes."""
        return self.model_copy(update={"build": "", "tries": self.tries + 1, "tried": now, "why": why})

    def resumed(self) -> WantedRebuild:
        """After a person has asked again."""
        return self.model_copy(update={"tries": 0, "tried": None, "why": ""})

    @property
    def retry_at(self) -> datetime | None:
        """When it is tried again; None when nothing was in vain."""
        return self.tried + _WAIT * (1 << (self.tries - 1)) if self.tried else None

    def phase(self, now: datetime) -> Phase:
        """The next action for it."""
        if self.build:
            return "building"
        if self.tries >= _MOST_TRIES:
            return "paused"
        return "due" if self.retry_at is None or now >= self.retry_at else "backing off"

    def in_words(self, now: datetime) -> str:
        """How it stands."""
        match self.phase(now):
            case "building":
                return "is being rebuilt"
            case "paused":
                return f"{self.tries} rebuilds in vain ({self.why}); execute its check `patched` to try again"
            case "backing off":
                return f"rebuilt in vain ({self.why}); tried again after {self.retry_at:%Y-%m-%d %H:%M} UTC"
            case "due":
                return "is to be rebuilt"


def next_rebuilds(wanted: Mapping[str, WantedRebuild], now: datetime) -> list[str]:
    """The images to rebuild in one build now; none while one runs.

    Those that were built in vain are tried separately, because one of them may be what fails.
    """
    phases = {image: state.phase(now) for image, state in wanted.items()}
    if "building" in phases.values():
        return []
    due = sorted(image for image, phase in phases.items() if phase == "due")
    return [image for image in due if not wanted[image].tries] or due[:1]
