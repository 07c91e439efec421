"""What a release would change, tag by tag, and whether it may."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aml_images_dagster.builds.ledger import LATEST, ReleaseRecord, TagChange, unfinished
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.release.release_json import ReleaseJson

_NUMBERED = re.compile(r"(\d{8}\.v)(\d+)")


@dataclass(frozen=True)
class ReleasePlan:
    """What a release would change.

    Attributes:
        changes: Every tag, in the order in which they move. `before` is what production serves now.
        resumes: The record of the same release that began and was not completed.
        released: The record of the same release that was completed.
        lacks: What an image does without that others have, for whoever releases it. It stops no release.
    """

    changes: tuple[TagChange, ...]
    resumes: ReleaseRecord | None
    released: ReleaseRecord | None
    lacks: Mapping[str, str] = field(default_factory=dict)

    @property
    def nothing_to_do(self) -> bool:
        """Whether the release is complete, and written down as such."""
        return self.released is not None and all(change.before == change.after for change in self.changes)


def plan_release(release: ReleaseJson, production: Registry, records: Sequence[ReleaseRecord]) -> ReleasePlan:
    """Compare a build with what production serves and with what was ever released.

    Raises:
        BadInput: A release tag stands, or stood, for something else, or a newer build is the latest.
        Unreachable: Production does not answer.
    """
    names = [
        (f"{image.family}/{image.name}", *name.rpartition(":")[::2], image.staging.digest)
        for image in release.images
        for name in image.destinations
    ]
    names.sort(key=lambda name: name[2] == LATEST)
    changes = tuple(
        TagChange(
            image=image,
            repository=repository,
            tag=tag,
            before=production.digest(Reference(production.host, repository, tag)),
            after=digest,
        )
        for image, repository, tag, digest in names
    )
    ours = [record for record in records if record.action == "release" and record.build == release.build]
    plan = ReleasePlan(
        changes=changes,
        resumes=next(iter(unfinished(ours, "release")), None),
        released=next((r for r in reversed(ours) if r.done), None),
    )
    _check_tags(release, changes, production, records)
    _check_age(release, changes, records)
    return plan


def _check_tags(
    release: ReleaseJson, changes: Sequence[TagChange], production: Registry, records: Sequence[ReleaseRecord]
) -> None:
    taken = []
    for change in changes:
        if change.tag == LATEST:
            continue
        named = [(r, c) for r in reversed(records) if (c := r.change(change.image, change.tag))]
        withdrawn = next((r for r, _ in named if r.action == "withdrawal"), None)
        if withdrawn is not None:
            how = "was" if withdrawn.done else "is being"  # a withdrawal that broke off is still to be completed
            taken.append(f"{change.name} {how} withdrawn by {withdrawn.who} on {withdrawn.when:%Y-%m-%d}")
            continue
        # Whatever is served now: somebody may have pulled what it stood for.
        stood = next(((r, c) for r, c in named if r.done and c.after != change.after), None)
        released_by = f", released by build {stood[0].build} on {stood[0].when:%Y-%m-%d}" if stood else ""
        if change.before not in (None, change.after):
            taken.append(f"{change.name} is {change.before}{released_by}; this build has {change.after}")
        elif stood is not None:
            taken.append(f"{change.name} was {stood[1].after}{released_by}; this build has {change.after}")
    if taken:
        raise BadInput(
            "\n  ".join(taken),
            where=f"build {release.build}",
            mend=f"A release tag never moves. {_another_tag(release, changes, production)}; what passed is taken over, "
            "so it takes seconds.",
        )


def released_under(tag: str, images: Collection[str], records: Sequence[ReleaseRecord]) -> ReleaseRecord | None:
    """The last release of some of the images under a tag; another build of them can hardly be released under it."""
    releases = (record for record in reversed(records) if record.action == "release")
    return next((r for r in releases if any(r.change(image, tag) for image in images)), None)


def _done(records: Sequence[ReleaseRecord], change: TagChange) -> list[ReleaseRecord]:
    """What was done to a tag, newest first."""
    return [r for r in reversed(records) if r.done and r.change(change.image, change.tag)]


def _another_tag(release: ReleaseJson, changes: Sequence[TagChange], production: Registry) -> str:
    """How to build under a tag that is free."""
    numbered = _NUMBERED.fullmatch(release.release_tag)
    if not numbered:
        return "Build again with another --release-tag"
    tags = {tag for repository in {change.repository for change in changes} for tag in production.tags(repository)}
    matches = filter(None, map(_NUMBERED.fullmatch, {*tags, release.release_tag}))
    used = [int(match[2]) for match in matches if match[1] == numbered[1]]
    return f"Build again with --release-num {max(used) + 1}"


def _check_age(release: ReleaseJson, changes: Sequence[TagChange], records: Sequence[ReleaseRecord]) -> None:
    newer = []
    for change in changes:
        last = next(iter(_done(records, change)), None)
        if change.tag != LATEST or change.before == change.after or last is None:
            continue
        if last.built > release.created:
            newer.append(f"{change.name} is of build {last.build}, which is newer")
    if newer:
        raise BadInput(
            "\n  ".join(newer),
            where=f"build {release.build}",
            mend="A release never takes :latest back. `aml-images rollback` does, or start a new build.",
        )
