"""Waits until the public registry serves what was released to production: it is promoted then."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.builds.ledger import LATEST
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry.oci import OciRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aml_images_dagster.builds.ledger import TagChange
    from aml_images_dagster.settings import Settings

State = Literal["there", "late", "wrong"]


@dataclass(frozen=True, slots=True)
class PublicTag:
    """A released tag, and what the public registry serves for it.

    Attributes:
        image: `<family>/<name>`.
        reference: The tag in the public registry.
        digest: What was released.
        served: What is served; None when nothing is, or when it could not be asked.
        state: `there`, `late` (nothing, or what was the latest before), `wrong` (anything else).
    """

    image: str
    reference: Reference
    digest: str
    served: str | None
    state: State


def await_promotion(changes: Iterable[TagChange], settings: Settings, report: Callable[[str], None]) -> list[PublicTag]:
    """Wait until the public registry serves every tag of a release, for as long as the settings say.

    A release tag with another digest will not fix itself, and ends the wait for it; `:latest` may point to something
    else until it is promoted, too.

    Args:
        changes: What was released.
        settings: Where it appears, how often to look and for how long.
        report: Called with what has arrived, a line each.

    Returns:
        Every tag; none when no public registry is configured.
    """
    pattern = settings.release.public_names
    if not pattern:
        return []
    waiting = [_expected(change, pattern) for change in changes if change.after]
    registries = {host: OciRegistry(host) for host in {tag.reference.registry for tag, _ in waiting}}
    deadline = time.monotonic() + settings.release.promotion_timeout_minutes * 60
    ended: list[PublicTag] = []
    total = len(waiting)
    report(f"waiting for {total} tags in {', '.join(sorted(registries))}")
    while True:
        late: list[tuple[PublicTag, str | None]] = []
        for tag, before in waiting:
            seen = _look(tag, before, registries[tag.reference.registry])
            last_look = time.monotonic() >= deadline
            if seen.state == "there" or last_look or (seen.state == "wrong" and tag.reference.tag != LATEST):
                ended.append(seen)
                report(f"{seen.reference}: {seen.state}, {total - len(ended)} to go")
            else:
                late.append((tag, before))
        waiting = late
        if not waiting:
            return sorted(ended, key=lambda tag: str(tag.reference))
        time.sleep(min(settings.release.promotion_poll_seconds, max(0.0, deadline - time.monotonic())))


def problems(tags: Sequence[PublicTag], state: State) -> list[str]:
    """What is late, or wrong, in words."""
    return [
        f"{tag.reference} serves {tag.served or 'nothing'}, but {tag.digest} was released"
        for tag in tags
        if tag.state == state
    ]


def _expected(change: TagChange, pattern: str) -> tuple[PublicTag, str | None]:
    family, _, name = change.image.partition("/")
    reference = Reference.parse(pattern.format(family=family, name=name)).with_tag(change.tag)
    return PublicTag(change.image, reference, change.after or "", None, "late"), change.before


def _look(tag: PublicTag, before: str | None, registry: OciRegistry) -> PublicTag:
    try:
        served = registry.digest(tag.reference)
    except Unreachable:
        return tag
    if served == tag.digest:
        return replace(tag, served=served, state="there")
    return replace(tag, served=served, state="late" if served in (None, before) else "wrong")
