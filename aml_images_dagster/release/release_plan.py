"""The changes of a release, tag by tag, and whether they are allowed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import LATEST, ReleaseRecord, TagChange
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from aml_images_dagster.builds.versions.image_difference import ImageDifference
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.release.release_json import ReleaseJson

_NUMBERED = re.compile(r"(\d{8}\.v)(\d+)")


@dataclass(frozen=True)
class ReleasePlan:
    """What a release would change.

    Attributes:
        changes: Every tag, in the order in which they move. `before` is what production serves now.
        resumes: The record of the same, incomplete release that continues.
        released: The record of the same release that was completed.
        lacks: What an image lacks, e.g. tests, for the person who releases it. It stops no release.
        differences: What changes for users of each `:latest` that moves, by image.
        not_compared: Why that is not known, by image.
    """

    changes: tuple[TagChange, ...]
    resumes: ReleaseRecord | None
    released: ReleaseRecord | None
    lacks: Mapping[str, str] = field(default_factory=dict)
    differences: Mapping[str, ImageDifference] = field(default_factory=dict)
    not_compared: Mapping[str, str] = field(default_factory=dict)

    @property
    def major(self) -> tuple[str, ...]:
        """What may break users, image by image, e.g. `base/cpu: Python 3.8 → 3.10`; also that it is not known."""
        known = [f"{image}: {each}" for image, found in self.differences.items() for each in found.major]
        unknown = [f"{image}: what changed is not known: {why}" for image, why in self.not_compared.items()]
        return (*known, *unknown)

    @property
    def nothing_to_do(self) -> bool:
        """Whether the release is complete, and recorded as complete."""
        is_there = all(change.before == change.after for change in self.changes)
        return self.released is not None and self.resumes is None and is_there


def plan_release(release: ReleaseJson, production: Registry, records: Sequence[ReleaseRecord]) -> ReleasePlan:
    """Compare a build with what production serves and with what was ever released.

    Raises:
        BadInput: Two images have one name, a release tag points or pointed to something else, an image was withdrawn,
            or a newer build is the latest.
        Unreachable: Production does not answer.
    """
    history = History(records)
    names = [
        (f"{image.family}/{image.name}", name, image.staging.digest)
        for image in release.images
        for name in image.destinations
    ]
    names.sort(key=lambda name: name[1].endswith(f":{LATEST}"))
    _check_names(release, names)
    changes = tuple(_change(image, name, digest, production) for image, name, digest in names)
    ours = [r for r in history.changes if (r.action, r.build) == ("release", release.build)]
    _check_tags(release, changes, history)
    _check_age(release, changes, production, history)
    return ReleasePlan(
        changes=changes,
        resumes=history.resumable("release", release.build, changes),
        released=next((r for r in reversed(ours) if r.done), None),
    )


def _change(image: str, name: str, digest: str, production: Registry) -> TagChange:
    repository, _, tag = name.rpartition(":")
    before = production.digest(Reference(production.host, repository, tag))
    return TagChange(image=image, repository=repository, tag=tag, before=before, after=digest)


def _check_names(release: ReleaseJson, names: Sequence[tuple[str, str, str]]) -> None:
    images: dict[str, list[str]] = {}
    for image, name, _ in names:
        images.setdefault(name, []).append(image)
    twice = [f"{' and '.join(of_it)} would both be {name}" for name, of_it in images.items() if len(of_it) > 1]
    if twice:
        raise BadInput(
            "\n  ".join(twice),
            where=f"build {release.build}",
            hint="Put {family} into the setting production_names, or rename one of the folders, and build again.",
        )


def _check_tags(release: ReleaseJson, changes: Sequence[TagChange], history: History) -> None:
    taken = []
    for change in changes:
        if change.tag == LATEST:
            continue
        withdrawn = history.withdrawal(change.name)
        if withdrawn is not None:
            taken.append(f"{change.name} {_is_withdrawn(withdrawn)}")
            continue
        # Independent of what is served now: clients may have pulled what it pointed to.
        named = reversed(history.of(change.name))
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
            hint=f"A release tag never moves. {_build_again(release, changes, history)}",
        )
    _check_withdrawn(release, changes, history)


def _check_withdrawn(release: ReleaseJson, changes: Sequence[TagChange], history: History) -> None:
    """Refuse what was withdrawn under another release tag: it is the same image."""
    found = _withdrawn_images(changes, history)
    if found:
        raise BadInput(
            "\n  ".join(_named(found)),
            where=f"build {release.build}",
            hint=_other_image(found),
        )


def _withdrawn_images(changes: Sequence[TagChange], history: History) -> dict[str, tuple[str, ReleaseRecord]]:
    """The images of a build that were withdrawn under any release tag: that tag, and the withdrawal."""
    return {
        change.image: same
        for change in changes
        if change.tag == LATEST and (same := history.withdrawn(change.repository).get(change.after or ""))
    }


def _named(withdrawn: Mapping[str, tuple[str, ReleaseRecord]]) -> list[str]:
    """Each image that was withdrawn, with what it was, and by whom."""
    return [f"{image} is the image of {tag}, which {_is_withdrawn(by)}" for image, (tag, by) in withdrawn.items()]


def _other_image(images: Collection[str], tag: str = "") -> str:
    """How to have another image in place of what was withdrawn."""
    command = " ".join(filter(None, ("aml-images build", *images, tag)))
    return (
        f"Change what was wrong with it, in its folder or its base, commit, and run `{command}`. A build of the same "
        "commit takes the same image again, and with --force makes another one of the same files."
    )


def _is_withdrawn(withdrawal: ReleaseRecord) -> str:
    how = "was" if withdrawal.done else "is being"  # an incomplete withdrawal is still to be completed
    return f"{how} withdrawn by {withdrawal.who} on {withdrawal.when:%Y-%m-%d}"


def released_under(tag: str, images: Collection[str], records: Sequence[ReleaseRecord]) -> ReleaseRecord | None:
    """The last release of some of the images under a tag; another build of them cannot be released under it."""
    releases = (record for record in reversed(records) if record.action == "release")
    return next((r for r in releases if any(r.change(image, tag) for image in images)), None)


def hint_at_release_tag(tag: str, images: Collection[str], records: Sequence[ReleaseRecord]) -> str:
    """What is said before a build whose release would be refused, as long as another tag costs nothing; else empty."""
    earlier = released_under(tag, images, records)
    if earlier is None:
        return ""
    return (
        f"release tag {tag} is already used by build {earlier.build}: an image that differs from that release needs "
        "another tag; set the release number or tag"
    )


def hint_at_withdrawn(digests: Mapping[str, str], records: Sequence[ReleaseRecord]) -> str:
    """What is said before and after a build whose release would be refused for what was withdrawn; else empty.

    Args:
        digests: Image → digest, of those that the build has or reuses.
        records: All records of the ledger.
    """
    history = History(records)
    found = {image: by for image, digest in digests.items() if (by := history.withdrawn_of(image).get(digest))}
    if not found:
        return ""
    return f"This build cannot be released: {'; '.join(_named(found))}. {_other_image(found)}"


def _build_again(release: ReleaseJson, changes: Sequence[TagChange], history: History) -> str:
    """How to have an image under a tag that is free; what was withdrawn would be refused under any."""
    tag = "" if _NUMBERED.fullmatch(release.release_tag) else "--release-tag ANOTHER"
    withdrawn = _withdrawn_images(changes, history)
    if withdrawn:
        return f"What was withdrawn is released under no other. {_other_image(withdrawn, tag)}"
    how = f" with {tag}" if tag else ", without a release number: the build takes the next free one"
    return f"Build again{how}; what passed is reused, so it takes seconds."


def _check_age(release: ReleaseJson, changes: Sequence[TagChange], production: Registry, history: History) -> None:
    newer = []
    for change in changes:
        if change.tag != LATEST or change.before == change.after:
            continue
        latest = history.latest(change.repository, change.before)
        if latest.record is not None and latest.record.built > release.created:
            newer.append(f"{change.name} is from build {latest.record.build}, which is newer")
        elif tag := _newer_tag(change, release.release_tag, production, history):
            newer.append(f"{change.name} is {tag}, which is newer")
    if newer:
        raise BadInput(
            "\n  ".join(newer),
            where=f"build {release.build}",
            hint="A release never takes :latest back. `aml-images rollback` does, or start a new build.",
        )


def _newer_tag(change: TagChange, ours: str, production: Registry, history: History) -> str | None:
    """The release tag with a higher number that a `:latest` points to, and that the ledger does not know: a drop's."""
    number = _number(ours)
    tags = production.tags(change.repository) if number and change.before else ()
    newer = (tag for tag in tags if (theirs := _number(tag)) and theirs > number)
    unknown = (tag for tag in newer if not any(r.done for r, _ in history.of(f"{change.repository}:{tag}")))
    latest = Reference(production.host, change.repository, LATEST)
    return next((tag for tag in unknown if production.digest(latest.with_tag(tag)) == change.before), None)


def _number(tag: str) -> tuple[str, int] | tuple[()]:
    """Day and number of a release tag; nothing of one that has another form."""
    numbered = _NUMBERED.fullmatch(tag)
    return (numbered[1], int(numbered[2])) if numbered else ()
