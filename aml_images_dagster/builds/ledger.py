"""The ledger: numbered, immutable records of all changes of production.

A release, a rollback or a withdrawal writes a record before it touches production and one when it is done, both with
every tag that it moves, with its old and new digest. So the purpose of a killed release is known, and what
production served at any time. Records are `<artifacts>/releases/<number>.json`.

A release tag never moves: the second build of an image on a day would be refused at its release if it had the number of
the first. So a build takes the next free one.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, ValidationError

from aml_images_dagster.builds.artifacts import create_atomically, read_whole
from aml_images_dagster.builds.records import Record, is_newer, why_unreleasable, written_by_newer
from aml_images_dagster.errors import BadInput
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from datetime import date

    from aml_images_dagster.builds.artifacts import Artifacts, BuildFolder

Action = Literal["release", "rollback", "withdrawal"]

LATEST = "latest"

LEASE_SECONDS = 60.0
"""How long the lease on production lasts without being renewed. A release holds it when it claims its build, and still
when it writes its first record."""
_CLAIM_LASTS = timedelta(seconds=LEASE_SECONDS) + timedelta(hours=1)
"""With a margin for clocks that differ and stores that are slow."""
_MAY_BE_RELEASED = ("running", "succeeded", "expired")
_RELEASE_TAG = re.compile(rb'"release_tag"\s*:\s*"([^"]*)"')


class TagChange(Record):
    """One tag of the production registry that moves.

    Attributes:
        image: `<family>/<name>`.
        repository: Repository in the production registry.
        tag: Its tag.
        before: Digest that it pointed to; None when there was no such tag.
        after: Digest that it is to point to; None when the tag is removed.
    """

    image: str
    repository: str
    tag: str
    before: str | None
    after: str | None

    @property
    def name(self) -> str:
        """`<repository>:<tag>`, as import.cfg writes it."""
        return f"{self.repository}:{self.tag}"


class ReleaseRecord(Record):
    """One record.

    Attributes:
        number: Counted from 1, without gaps.
        action: What was done.
        begun: Number of the record that was written when it began; None for that record itself.
        who: Who did it.
        when: When this was written, UTC.
        build: The build that is released, rolled back to, or withdrawn.
        commit: What that build was built from.
        built: When that build was started, UTC.
        release_tag: Its release tag.
        changes: Every tag, in the order in which they move.
        outside_window: Why it was released outside of the release windows; empty when it was not.
        reason: Why it was rolled back or withdrawn; empty for a release.
        accepted_major: Changes that may break users and that a person has accepted, e.g. `base/cpu: glibc 2.31 → 2.36`.
    """

    number: int
    action: Action
    begun: int | None
    who: str
    when: AwareDatetime
    build: str
    commit: str
    built: AwareDatetime
    release_tag: str
    changes: tuple[TagChange, ...]
    outside_window: str = ""
    reason: str = ""
    accepted_major: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether it was completed with this record."""
        return self.begun is not None

    def change(self, image: str, tag: str) -> TagChange | None:
        """What it did to a tag of an image."""
        return next((change for change in self.changes if (change.image, change.tag) == (image, tag)), None)

    def named(self, name: str) -> TagChange | None:
        """What it did to a tag of production, `<repository>:<tag>`."""
        return next((change for change in self.changes if change.name == name), None)


class Ledger:
    """All records of an artifacts store.

    Args:
        artifacts: The store.
    """

    def __init__(self, artifacts: Artifacts) -> None:
        self.folder = artifacts.root / "releases"

    def records(self) -> tuple[ReleaseRecord, ...]:
        """Every record, oldest first.

        Raises:
            BadInput: One cannot be read, so it is unknown what production has to serve.
        """
        filesystem, folder = self.folder.fs, self.folder.path
        filesystem.invalidate_cache(folder)
        if not filesystem.exists(folder):
            return ()
        files = [file for file in filesystem.ls(folder, detail=True) if file["name"].endswith(".json")]
        keys = {file["name"]: (filesystem, file["name"], _version(file)) for file in files}
        unread = [path for path, key in keys.items() if key not in _RECORDS]
        for path, data in (filesystem.cat(unread) if unread else {}).items():
            _RECORDS[keys[path]] = _read(path, data)
        return tuple(sorted((_RECORDS[key] for key in keys.values()), key=lambda record: record.number))

    def append(self, record: ReleaseRecord) -> ReleaseRecord:
        """Write a record under the next number, whatever number it has, and return it as it was written."""
        while True:
            records = self.records()
            numbered = record.model_copy(update={"number": records[-1].number + 1 if records else 1})
            try:
                create_atomically(
                    self.folder / f"{numbered.number:06}.json", (numbered.model_dump_json(indent=2) + "\n").encode()
                )
            except FileExistsError:  # another process was faster
                continue
            return numbered

    def begin(
        self, action: Action, like: ReleaseRecord, changes: tuple[TagChange, ...], who: str, reason: str
    ) -> ReleaseRecord:
        """Record that a change starts now."""
        about = {"action": action, "changes": changes, "who": who, "reason": reason}
        began = {"begun": None, "when": datetime.now(UTC), "outside_window": "", "accepted_major": ()}
        return self.append(like.model_copy(update=about | began))

    def complete(
        self,
        begun: ReleaseRecord,
        who: str,
        *,
        outside_window: str = "",
        reason: str = "",
        accepted_major: Sequence[str] = (),
    ) -> ReleaseRecord:
        """Record that a change is complete.

        Args:
            begun: The record with which it began, which may be another's.
            who: Who has completed it.
            outside_window: Why it was completed outside of the release windows; empty for as it began.
            reason: Why it was completed; empty for as it began.
            accepted_major: Major changes that were accepted for its completion.
        """
        done = {"begun": begun.number, "who": who, "when": datetime.now(UTC)}
        why = {"outside_window": outside_window or begun.outside_window, "reason": reason or begun.reason}
        accepted = {"accepted_major": tuple(dict.fromkeys((*begun.accepted_major, *accepted_major)))}
        return self.append(begun.model_copy(update=done | why | accepted))

    def released_builds(self) -> frozenset[str]:
        """Builds whose release has started: they have to stay in staging."""
        return frozenset(record.build for record in self.records() if record.action == "release")


def is_claimed(folder: BuildFolder, now: datetime) -> bool:
    """Whether a release that is starting has claimed a build, and may still write its first record.

    The claim of a release that died before that means nothing once its lease is long over.

    Args:
        folder: The build.
        now: The time, UTC.

    Raises:
        BadInput: `outcome.json` cannot be read.
    """
    claimed = folder.claimed_at()
    return claimed is not None and now - claimed <= _CLAIM_LASTS


def released_images(records: Sequence[ReleaseRecord]) -> set[str]:
    """Every image that a record is about."""
    return {change.image for record in records for change in record.changes}


_RECORDS: dict[tuple[Any, str, str], ReleaseRecord] = {}
"""The records that this process has read, by store, path and version of the file: each is read once."""


def _version(file: dict[str, Any]) -> str:
    """The version of a file, from the attributes that a listing of a disk or an object store has."""
    return repr([file.get(name) for name in ("size", "ino", "mtime", "etag", "last_modified", "created")])


def _read(path: str, data: bytes) -> ReleaseRecord:
    try:
        return ReleaseRecord.model_validate_json(data)
    except ValidationError as error:
        if is_newer(error):
            hint = "Use that version, here and on every other machine."
            raise BadInput(written_by_newer(error), where=path, hint=hint) from None
        raise BadInput(
            f"not a release record of this version: {counted(error.error_count(), 'fault') if data else 'it is empty'}",
            where=path,
            hint="Release records are never changed: restore this one from a backup. Without one, compare what "
            "production serves with the records around it, write the missing records, and move the file elsewhere.",
        ) from None


def next_release_num(
    day: date,
    images: Collection[str],
    artifacts: Artifacts,
    promised: Iterable[int] = (),
    *,
    unreadable: Callable[[BadInput], object],
) -> int:
    """The first number of a day that none of the images has, nor any number after it.

    Args:
        day: The day in UTC on which the build starts.
        images: What it builds.
        artifacts: Knows the releases, and the builds of the day.
        promised: Numbers of builds of these images that have yet to begin.
        unreadable: Called with every record that cannot be read; its number counts if its text still has it.
    """
    tags = {*_built(day, frozenset(images), artifacts, unreadable)}
    try:
        for done in Ledger(artifacts).records():
            tags |= {change.tag for change in done.changes if change.image in images}
    except BadInput as error:
        unreadable(error)
    numbered = re.compile(rf"{day:%Y%m%d}\.v([0-9]+)")
    taken = {int(match[1]) for match in map(numbered.fullmatch, tags) if match}
    return max((*taken, *promised), default=0) + 1


def _built(
    day: date, images: frozenset[str], artifacts: Artifacts, unreadable: Callable[[BadInput], object]
) -> Iterator[str]:
    """Release tags of the day's builds that may be released."""
    for folder in artifacts.folders():
        if not folder.build.startswith(f"{day:%Y%m%d}."):
            continue
        try:
            build = folder.read_build()
        except BadInput as error:
            unreadable(error)
            yield from _written(folder)
        else:
            may_be = build is not None and build.status in _MAY_BE_RELEASED and not why_unreleasable(build.commit)
            if build and may_be and images & {*build.images}:
                yield build.release_tag


def _written(folder: BuildFolder) -> list[str]:
    """The release tag in the text of a record that is damaged, or of a newer version."""
    try:
        return [tag.decode("utf-8", "replace") for tag in _RELEASE_TAG.findall(read_whole(folder.root / "build.json"))]
    except OSError:
        return []
