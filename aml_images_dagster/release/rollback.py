"""Roll-back: `:latest` stands for an earlier release of an image again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.builds.ledger import LATEST, Ledger, ReleaseRecord, TagChange, released_images, unfinished
from aml_images_dagster.catalog.image_name import full_name
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, ReleaseFailed
from aml_images_dagster.release.production import exclusively

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.settings import Settings


@dataclass(frozen=True)
class ReleasedVersion:
    """A release of one image.

    Attributes:
        image: `<family>/<name>`.
        repository: Its repository in production.
        tag: Its release tag.
        digest: What was released.
        record: The record of the release.
        withdrawn: Whether the release tag was withdrawn since.
    """

    image: str
    repository: str
    tag: str
    digest: str
    record: ReleaseRecord
    withdrawn: bool


def released_image(name: str, parts: Parts) -> str:
    """The image that a person names, by `<family>/<name>` or by a name that only one released image has.

    Raises:
        BadInput: There is no such image in the ledger, or there are several.
    """
    known = released_images(Ledger(parts.artifacts).records())
    return full_name(
        name, known, f"{name} was never released from here", "`aml-images releases` shows what was released."
    )


def versions(image: str, records: Sequence[ReleaseRecord]) -> list[ReleasedVersion]:
    """Every release of an image, newest first.

    Raises:
        BadInput: It was never released.
    """
    withdrawn = {c.name for r in records if r.done and r.action == "withdrawal" for c in r.changes}
    found = {
        change.tag: ReleasedVersion(
            image, change.repository, change.tag, change.after, record, change.name in withdrawn
        )
        for record in records
        if record.done and record.action == "release"
        for change in record.changes
        if change.image == image and change.tag != LATEST and change.after is not None
    }
    if not found:
        raise BadInput(
            f"{image} was never released from here",
            mend="Write it as FAMILY/IMAGE; `aml-images releases` shows what was released.",
        )
    return sorted(found.values(), key=lambda version: version.record.number, reverse=True)


def plan_rollback(image: str, to: str, parts: Parts) -> tuple[ReleasedVersion, TagChange]:
    """The release to go back to, and how `:latest` moves. Nothing is changed.

    Args:
        image: `<family>/<name>`.
        to: Release tag; empty for the release before the one that `:latest` stands for.
        parts: Production, and the artifacts store.

    Raises:
        BadInput: There is no such release, or production does not serve it.
    """
    records = Ledger(parts.artifacts).records()
    known = versions(image, records)
    latest = Reference(parts.production.host, known[0].repository, LATEST)
    now = parts.production.digest(latest)
    version = _named(known, to) if to else _before(known, now, records)
    served = parts.production.digest(latest.with_tag(version.tag))
    if served != version.digest:
        raise BadInput(
            f"{version.repository}:{version.tag} serves {served or 'nothing'}, released was {version.digest}",
            where=parts.production.host,
            mend="Somebody else has changed production. Roll back to another release with --to.",
        )
    return version, TagChange(image=image, repository=version.repository, tag=LATEST, before=now, after=version.digest)


def roll_back(
    image: str, to: str, reason: str, parts: Parts, settings: Settings, who: str, tell: Callable[[str], None]
) -> ReleaseRecord | None:
    """Let `:latest` of an image stand for an earlier release; None when it does already.

    Raises:
        BadInput: See `plan_rollback`.
        ReleaseFailed: Production serves something else afterwards.
    """
    with exclusively(parts, settings, who, f"roll-back of {image}", tell) as lease:
        version, change = plan_rollback(image, to, parts)
        ledger = Ledger(parts.artifacts)
        begun = next((r for r in unfinished(ledger.records(), "rollback") if _same_move(r.changes, change)), None)
        if change.before == change.after and begun is None:
            return None
        begun = begun or ledger.begin("rollback", version.record, (change,), who, reason)
        lease.check()
        latest = Reference(parts.production.host, version.repository, LATEST)
        parts.production.tag(latest.with_digest(version.digest), LATEST)
        served = parts.production.digest(latest)
        if served != version.digest:
            raise ReleaseFailed(
                f"serves {served or 'nothing'} after the roll-back, not {version.digest}",
                where=str(latest),
                mend="Somebody else changes production at the same time. Roll back again.",
            )
        tell(f"{change.name} is {version.digest}")
        return ledger.complete(begun, who, reason=reason)


def _same_move(begun: Sequence[TagChange], change: TagChange) -> bool:
    """Whether what began is this move: to the same, from what is served still, unless it has moved already."""
    return [(c.name, c.after) for c in begun] == [(change.name, change.after)] and (
        change.before in (begun[0].before, begun[0].after)
    )


def _named(known: Sequence[ReleasedVersion], tag: str) -> ReleasedVersion:
    version = next((version for version in known if version.tag == tag), None)
    if version is None or version.withdrawn:
        tags = ", ".join(version.tag for version in known if not version.withdrawn)
        raise BadInput(
            f"{known[0].image} has no release {tag!r}" + (": it was withdrawn" if version else ""),
            where="--to",
            mend=f"Its releases: {tags or 'none'}.",
        )
    return version


def _before(known: Sequence[ReleasedVersion], now: str | None, records: Sequence[ReleaseRecord]) -> ReleasedVersion:
    """What the release that is served now took the place of; not what was rolled back from before it."""
    image = known[0].image
    served = {v.digest: v for v in reversed(known) if not v.withdrawn}
    passed, digest = {now}, now
    while (digest := _replaced(image, digest, records)) not in passed:
        if digest in served:
            return served[digest]
        passed.add(digest)
    # Nobody has seen what it replaced: it was imported by a drop, or somebody else has changed production.
    at = next((index for index, version in enumerate(known) if version.digest == now), -1)
    version = next((v for v in known[at + 1 :] if not v.withdrawn and v.digest != now), None)
    if version is None:
        raise BadInput(
            f"{image} has no earlier release",
            where=f"{known[0].repository}:{LATEST}",
            mend="Release a build in its place.",
        )
    return version


def _replaced(image: str, digest: str | None, records: Sequence[ReleaseRecord]) -> str | None:
    """What `:latest` stood for before a digest was last released; None when that is not known."""
    changes = (r.change(image, LATEST) for r in reversed(records) if r.done and r.action == "release")
    return next((c.before for c in changes if c is not None and c.after == digest and c.before != digest), None)
