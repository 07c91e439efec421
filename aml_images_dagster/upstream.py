"""External bases: which images are built on them, and when a change of one starts a build.

The state is a value that the caller keeps between two polls. Bases that changed within a while make one build. When it
fails each of them is tried separately, because one of them may be at fault and block the others; after some failures
with the same digest a base is paused until a person resumes it or its digest changes again.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from aml_images_dagster.catalog.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings.settings import UpstreamSettings

Outcome = Literal["running", "succeeded", "failed"]
Phase = Literal["current", "gathering", "due", "building", "backing off", "paused"]

_LONGEST_BACK_OFF = timedelta(days=1)


def base_name(reference: str) -> str:
    """A base by its full name, however a Dockerfile writes it: `ubuntu` is `docker.io/library/ubuntu:latest`."""
    base = Reference.parse(reference)
    return str(base if base.tag or base.digest else replace(base, tag="latest"))


def is_fixed(base: str) -> bool:
    """Whether a base is named by its digest, and can't change."""
    return bool(Reference.parse(base).digest)


def external_bases(images: Iterable[Image]) -> Mapping[str, tuple[str, ...]]:
    """Every external base by its full name, with the images whose Dockerfile names it.

    Releases of the catalog's own images are none.
    """
    named_by: dict[str, list[str]] = defaultdict(list)
    for image in images:
        external = (base for base in image.bases if base not in image.releases)
        for base in dict.fromkeys(map(base_name, external)):
            named_by[base].append(image.id)
    return {base: tuple(named_by[base]) for base in sorted(named_by)}


class WatchedBase(BaseModel):
    """What is known of one base.

    Attributes:
        settled: The digest for which nothing is left to do.
        served: The digest that the registry served last.
        changed: When it was first seen to be another than the settled one, or than the one that is being built, UTC.
        build: Key of the build that was started for it and has not ended; else empty.
        building: The digest that it was started for.
        failures: Builds for the served digest that have failed, one after the other.
        failed: When the last of them was found to have failed, UTC.
        images: The images FROM it, as they were when no build was under way; None before they were noted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settled: str
    served: str
    changed: AwareDatetime | None = None
    build: str = ""
    building: str = ""
    failures: int = 0
    failed: AwareDatetime | None = None
    images: tuple[str, ...] | None = None

    def seen(self, digest: str, now: datetime) -> WatchedBase:
        """After its registry was asked: another digest is a new chance."""
        if digest == self.served:
            return self
        # What a build is under way for has waited its time; another digest waits from when it was seen.
        waiting = None if self.build and self.served == self.building else self.changed
        changed = None if digest == self.settled else waiting or now
        return self.model_copy(update={"served": digest, "changed": changed, "failures": 0, "failed": None})

    def after(self, outcome: Outcome, now: datetime) -> WatchedBase:
        """After a check of its build."""
        if outcome == "running":
            return self
        ended = {"build": "", "building": ""}
        if outcome == "succeeded":
            changed = None if self.served == self.building else self.changed or now
            return self.model_copy(
                update=ended | {"settled": self.building, "changed": changed, "failures": 0, "failed": None}
            )
        if self.building != self.served:
            return self.model_copy(update=ended)
        return self.model_copy(update=ended | {"failures": self.failures + 1, "failed": now})

    def used_by(self, images: Sequence[str], built_on: Callable[[str], str], now: datetime) -> WatchedBase:
        """After its images were looked at.

        One that a build has left out, because its Dockerfile could not be read, is back: if it is still built on
        another digest, that is a change as well.

        Args:
            images: The images FROM it that can be built.
            built_on: The digest of this base that an image was built on last; empty if it was not.
            now: The time, UTC.
        """
        if self.build:
            return self
        back = [image for image in images if image not in self.images] if self.images is not None else []
        behind = "" if self.changed else next((on for on in map(built_on, back) if on not in ("", self.settled)), "")
        missed = {"settled": behind, "changed": now} if behind else {}
        return self.model_copy(update=missed | {"images": tuple(images)})

    def resumed(self) -> WatchedBase:
        """After a person has said that it is to be tried again."""
        return self.model_copy(update={"failures": 0, "failed": None})

    def started(self, build: str) -> WatchedBase:
        """After a build was asked for."""
        return self.model_copy(update={"build": build, "building": self.served})

    def retry_at(self, settings: UpstreamSettings) -> datetime | None:
        """When it is tried again after failures; None when nothing has failed."""
        if self.failed is None:
            return None
        wait = timedelta(minutes=settings.retry_minutes) * (1 << min(self.failures - 1, 20))
        return self.failed + min(wait, _LONGEST_BACK_OFF)

    def phase(self, settings: UpstreamSettings, now: datetime) -> Phase:
        """The next action for it."""
        if self.build:
            return "building"
        if self.changed is None:
            return "current"
        if self.failures >= settings.pause_after_failures:
            return "paused"
        retry = self.retry_at(settings)
        if retry is not None:
            return "due" if now >= retry else "backing off"
        return "due" if now >= self.changed + timedelta(minutes=settings.batch_minutes) else "gathering"


class UpstreamState(BaseModel):
    """What is known of all bases, by full name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bases: dict[str, WatchedBase] = Field(default_factory=dict)

    def with_bases(self, bases: Mapping[str, WatchedBase]) -> UpstreamState:
        """With some of the bases in a new state."""
        return UpstreamState(bases=self.bases | dict(bases))

    def only(self, names: Iterable[str]) -> UpstreamState:
        """Without the bases that nothing is built on now."""
        kept = set(names)
        return UpstreamState(bases={name: base for name, base in self.bases.items() if name in kept})


def next_build(watch: UpstreamState, settings: UpstreamSettings, now: datetime) -> list[str]:
    """The bases for which a build is to be started now; none while another runs."""
    phases = {name: base.phase(settings, now) for name, base in watch.bases.items()}
    if "building" in phases.values():
        return []
    due = [name for name, phase in phases.items() if phase == "due"]
    fresh = [name for name in due if not watch.bases[name].failures]
    if fresh:
        # What is still being gathered would make the next build a moment later.
        return sorted([*fresh, *(name for name, phase in phases.items() if phase == "gathering")])
    return sorted(due, key=lambda name: (watch.bases[name].failed or now, name))[:1]
