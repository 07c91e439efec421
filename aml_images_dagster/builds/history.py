"""History of every `:latest` and every release tag, from the ledger's records and from what production serves.

An incomplete change of production has moved only some of its tags. So its record counts as soon as it exists,
and whether it has moved a tag is determined from the `before` of the next change, or from what is served now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.builds.ledger import LATEST, released_images
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aml_images_dagster.builds.ledger import Action, ReleaseRecord, TagChange


@dataclass(frozen=True, slots=True)
class Served:
    """What a `:latest` pointed to.

    Attributes:
        digest: None for nothing.
        record: The release or rollback that put it there, completed or not; None where it was done elsewhere.
    """

    digest: str | None
    record: ReleaseRecord | None


@dataclass(frozen=True, slots=True)
class Latest:
    """A `:latest` now, and the digests that a rollback can go back to.

    Attributes:
        states: What it pointed to, the last of them now. A release adds one; what was rolled back from is left out.
        digests: Everything that it ever pointed to.
        unfinished: The rollback that has moved it last and was not completed.
        record: The release or rollback that it is from: the last one that moved it. Where it was moved elsewhere
            since, the release of the newest build with the digest that is served now, if there is one.
    """

    states: tuple[Served, ...]
    digests: frozenset[str | None]
    unfinished: ReleaseRecord | None
    record: ReleaseRecord | None

    @property
    def earlier(self) -> Iterator[Served]:
        """What it pointed to before, and before that."""
        return reversed(self.states[:-1])


@dataclass(frozen=True, slots=True)
class ReleasedVersion:
    """A release of one image, completed or not.

    Attributes:
        image: `<family>/<name>`.
        repository: Its repository in production.
        tag: Its release tag.
        digest: What was released.
        record: The last record of the release.
        done: Whether it was ever completed.
        withdrawn: Whether a withdrawal of this digest, under any release tag, has started.
    """

    image: str
    repository: str
    tag: str
    digest: str
    record: ReleaseRecord
    done: bool
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class BuildRelease:
    """The release of a build.

    Attributes:
        record: The record of its completion, or, if it was never completed, the last one of its start.
        withdrawn: Its images of which a withdrawal has started.
    """

    record: ReleaseRecord
    withdrawn: tuple[str, ...]

    @property
    def state(self) -> Literal["released", "not completed", "withdrawn", "partly withdrawn"]:
        """How it stands."""
        if not self.record.done:
            return "not completed"
        if not self.withdrawn:
            return "released"
        return "withdrawn" if set(self.withdrawn) == released_images([self.record]) else "partly withdrawn"


class History:
    """What was done to production.

    Args:
        records: All records of the ledger, oldest first.

    Attributes:
        changes: The last record of every release, rollback and withdrawal, oldest first.
    """

    def __init__(self, records: Sequence[ReleaseRecord]) -> None:
        last = {record.begun or record.number: record for record in records}
        self.changes = sorted(last.values(), key=lambda record: record.number)
        self._withdrawals = [record for record in self.changes if record.action == "withdrawal"]
        self._moves: dict[str, list[tuple[ReleaseRecord, TagChange]]] = {}
        for record in self.changes:
            for name, change in {each.name: each for each in reversed(record.changes)}.items():
                self._moves.setdefault(name, []).append((record, change))

    def of(self, name: str) -> list[tuple[ReleaseRecord, TagChange]]:
        """What was done to a tag, `<repository>:<tag>`, oldest first."""
        return self._moves.get(name, [])

    def withdrawal(self, name: str) -> ReleaseRecord | None:
        """The last withdrawal of a tag, as soon as it has started."""
        return next((record for record, _ in reversed(self.of(name)) if record.action == "withdrawal"), None)

    def withdrawn(self, repository: str) -> dict[str, tuple[str, ReleaseRecord]]:
        """Every digest that was withdrawn from a repository, with one of its release tags.

        Returns:
            Digest → release tag, and its withdrawal, as soon as that has started.
        """
        found: dict[str, tuple[str, ReleaseRecord]] = {}
        for record, change in ((r, c) for r in self._withdrawals for c in r.changes if c.repository == repository):
            releases = [(r, c.after) for r, c in self.of(change.name) if r.action == "release" and c.after]
            stood_for = {after for r, after in releases if r.done} | ({change.before} if change.before else set())
            found |= dict.fromkeys(stood_for or {after for _, after in releases}, (change.tag, record))
        return found

    def withdrawn_of(self, image: str) -> dict[str, tuple[str, ReleaseRecord]]:
        """The same of an image, `<family>/<name>`, in whichever repositories it was."""
        repositories = {change.repository for r in self._withdrawals for change in r.changes if change.image == image}
        return {digest: by for each in sorted(repositories) for digest, by in self.withdrawn(each).items()}

    def latest(self, repository: str, served: str | None) -> Latest:
        """What the `:latest` of a repository pointed to.

        Args:
            repository: Its repository in production.
            served: The digest that production serves now.
        """
        moves = self.of(f"{repository}:{LATEST}")
        found_next = [*(change.before for _, change in moves[1:]), served]
        states: list[Served] = []
        digests: set[str | None] = {served}
        unfinished: ReleaseRecord | None = None
        for (record, change), found in zip(moves, found_next, strict=False):
            unfinished = None
            _go_back(states, Served(change.before, None))
            digests.add(change.before)
            if not record.done and change.after != found:
                continue
            digests.add(change.after)
            if record.action == "rollback":
                _go_back(states, Served(change.after, record))
                unfinished = None if record.done else record
            else:
                _go_on(states, Served(change.after, record))
        is_recorded = bool(states) and states[-1].digest == served
        _go_back(states, Served(served, None))
        last = next((state.record for state in reversed(states) if state.record), None)
        released = None if is_recorded else self._newest_release(repository, served)
        return Latest(tuple(states), frozenset(digests), unfinished, released or last)

    def _newest_release(self, repository: str, digest: str | None) -> ReleaseRecord | None:
        """The release, completed or not, of the newest build with a digest."""
        releases = (
            record
            for record in self.changes
            if record.action == "release"
            and any((change.repository, change.after) == (repository, digest) for change in record.changes)
        )
        return max(releases, key=lambda record: record.built, default=None)

    def owner(self, repository: str, served: str | None) -> str | None:
        """The image whose release a `:latest` points to; None where the ledger does not know."""
        record = self.latest(repository, served).record
        change = record.named(f"{repository}:{LATEST}") if record else None
        return change.image if change else None

    def versions(self, image: str) -> list[ReleasedVersion]:
        """Every release of an image into the repository of its last one, newest first.

        Raises:
            BadInput: No release of it has started.
        """
        released = [
            (record, change)
            for record in self.changes
            if record.action == "release"
            for change in record.changes
            if change.image == image and change.tag != LATEST and change.after is not None
        ]
        if not released:
            raise BadInput(
                f"{image} has no recorded release",
                hint="Write it as FAMILY/IMAGE; `aml-images releases` shows what was released.",
            )
        repository = released[-1][1].repository
        withdrawn = self.withdrawn(repository)
        found: dict[str, ReleasedVersion] = {}
        for record, change in released:
            if change.repository != repository or change.after is None:
                continue
            before = found.get(change.tag)
            found[change.tag] = ReleasedVersion(
                image=image,
                repository=change.repository,
                tag=change.tag,
                digest=change.after,
                record=record,
                done=record.done or (before is not None and before.done and before.digest == change.after),
                withdrawn=change.after in withdrawn,
            )
        return sorted(found.values(), key=lambda version: version.record.number, reverse=True)

    def tags(self, image: str) -> list[str]:
        """The release tags of an image that were not removed by a withdrawal, newest first.

        Raises:
            BadInput: No release of it has started.
        """
        versions = self.versions(image)
        gone = {each.tag for each in versions if (by := self.withdrawal(f"{each.repository}:{each.tag}")) and by.done}
        return [each.tag for each in versions if each.tag not in gone]

    def of_build(self, build: str) -> BuildRelease | None:
        """The release of a build; None if none has started."""
        releases = [record for record in self.changes if (record.action, record.build) == ("release", build)]
        if not releases:
            return None
        last = next((record for record in reversed(releases) if record.done), releases[-1])
        moved = [change for change in last.changes if change.tag != LATEST]
        gone = {change.image for change in moved if change.after in self.withdrawn(change.repository)}
        return BuildRelease(last, tuple(sorted(gone)))

    def unfinished(self) -> list[ReleaseRecord]:
        """Incomplete changes that were not started again since; newest first."""
        again: set[tuple[str, str, frozenset[str]]] = set()
        found = []
        for record in reversed(self.changes):
            about = (record.action, record.build, frozenset(change.name for change in record.changes))
            if not record.done and about not in again:
                found.append(record)
            again.add(about)
        return found

    def resumable(self, action: Action, build: str, changes: Sequence[TagChange]) -> ReleaseRecord | None:
        """The record of the same change, if it is incomplete and can continue: its `before` must still be true.

        Nothing else was done to its tags since, and each of them is still what it was, or what it is to be.

        Args:
            action: What is done.
            build: The build that it is about.
            changes: What is to be changed now, with what production serves now as `before`.
        """
        for record in self.unfinished():
            if (record.action, record.build) != (action, build):
                continue
            if [(c.name, c.after) for c in record.changes] != [(c.name, c.after) for c in changes]:
                continue
            names = {change.name for change in changes}
            is_last = not any(
                names & {change.name for change in other.changes}
                for other in self.changes
                if other.number > record.number
            )
            as_it_was = all(
                now.before in (was.before, was.after) for was, now in zip(record.changes, changes, strict=True)
            )
            return record if is_last and as_it_was else None
        return None


def _go_back(states: list[Served], put: Served) -> None:
    """Move it back to a digest that it pointed to before, or else to a new one."""
    known = next((index for index in reversed(range(len(states))) if states[index].digest == put.digest), None)
    if known is None:
        states.append(put)
        return
    del states[known + 1 :]
    if put.record is not None:
        states[known] = put


def _go_on(states: list[Served], put: Served) -> None:
    """Move it to the digest of a release. Of builds with the same image, the newest counts."""
    before = states[-1]
    if before.digest != put.digest:
        states.append(put)
    elif before.record is None or (put.record is not None and put.record.built >= before.record.built):
        states[-1] = put
