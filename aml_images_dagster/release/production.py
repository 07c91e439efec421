"""Release of a build: import every image into production under its release tag, then move every `:latest`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from aml_images_dagster.builds.ledger import Ledger, ReleaseRecord
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, FactoryError, ReleaseFailed, ReleaseInterrupted
from aml_images_dagster.release.actor import stated
from aml_images_dagster.release.candidate import check_staging, check_traceable, check_verified, claim, completed, lacks
from aml_images_dagster.release.drop_script.import_images import ImportRefused, Tested, import_all
from aml_images_dagster.release.lease import Lease
from aml_images_dagster.release.major_changes import ReleaseComparison, accepted_changes
from aml_images_dagster.release.notes_writer import NotesWriter
from aml_images_dagster.release.release_plan import ReleasePlan, plan_release
from aml_images_dagster.text import counted
from aml_images_dagster.trust.referrers import copy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from upath import UPath

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.ledger import TagChange
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.release.release_json import ReleaseJson
    from aml_images_dagster.settings import Settings


@dataclass(frozen=True)
class Release:
    """The result of a release.

    Attributes:
        plan: What it changed; `before` is what production served when it was called.
        record: The record of its completion.
        notes: Its release notes; None if they could not be written.
    """

    plan: ReleasePlan
    record: ReleaseRecord
    notes: UPath | None


class Releaser:
    """Releases builds.

    Args:
        backends: Registries, importer, artifacts store.
        settings: Windows, and how long to wait for others.
        who: The person who releases, for the record.
        report: Called with what is done, a line each.
    """

    def __init__(self, backends: Backends, settings: Settings, who: str, report: Callable[[str], None]) -> None:
        self._backends = backends
        self._settings = settings
        self._who = who
        self._report = report
        self._ledger = Ledger(backends.artifacts)
        self._comparison = ReleaseComparison(backends, settings)
        self._notes = NotesWriter(backends, settings, self._comparison)

    def plan(self, release: ReleaseJson, *, scanned: bool = False) -> ReleasePlan:
        """What a release would change. Nothing is changed.

        Args:
            release: What the build made.
            scanned: Also ask for vulnerabilities; a source that cannot look is part of the result.

        Raises:
            BadInput: The build may not be released.
            Unreachable: A registry does not answer.
        """
        check_traceable(release)
        check_staging(release, self._backends.staging)
        check_verified(release, self._backends.staging, self._settings)
        plan = plan_release(release, self._backends.production, self._ledger.records())
        plan = replace(plan, lacks=lacks(release, self._backends, self._settings))
        return self._comparison.add(release, plan, scanned=scanned)

    def release(self, release: ReleaseJson, *, outside_window: str = "", accept_major: bool = False) -> Release:
        """Release a build, or complete an incomplete release, and write its notes.

        Args:
            release: What the build made.
            outside_window: Why it is released outside of the release windows, if it is.
            accept_major: Release it although it has changes that may break users; these are recorded.

        Raises:
            BadInput: It may not be released; production is as it was.
            ReleaseFailed: It did not complete; what is done stays done, and the same call continues where it stopped.
            ReleaseInterrupted: A person has interrupted it; likewise.
        """
        plan, record = self._released(release, stated(outside_window, "outside_window"), accept_major)
        return Release(plan, record, self._write_notes(release, record))

    def _released(
        self, release: ReleaseJson, outside_window: str, accept_major: bool
    ) -> tuple[ReleasePlan, ReleaseRecord]:
        check_window(self._settings, outside_window, datetime.now(UTC))
        # What can be refused is refused before the wait for the lease.
        accepted_changes(self.plan(release), release, self._settings, accept_major)
        purpose = f"release of build {release.build}"
        with exclusively(self._backends, self._settings, self._who, purpose, self._report) as lease:
            check_window(self._settings, outside_window, datetime.now(UTC))  # it may have closed meanwhile
            plan = self.plan(release)
            if plan.released is not None and plan.nothing_to_do:
                return plan, plan.released
            accepted = accepted_changes(plan, release, self._settings, accept_major)
            lease.check()
            self._claim(release)
            lease.check()  # a claim lasts for as long as whoever made it may still begin
            begun = plan.resumes or self._ledger.append(self._begun(release, plan.changes, outside_window, accepted))
            production = _Production(self._backends, plan.changes, lease)
            with _explained(release, plan.changes, production):
                # A cleanup looks for a record like this one, after it has written its decision into the build's own:
                # whichever comes first, one of the two sees the other.
                self._still_complete(release)
                check_staging(release, self._backends.staging)

                def may_move() -> None:
                    lease.check()
                    self._still_complete(release)

                import_all(_tested(release), production, self._report, may_move)
                lease.check()
            done = self._ledger.complete(begun, self._who, outside_window=outside_window, accepted_major=accepted)
            return plan, done

    def _write_notes(self, release: ReleaseJson, record: ReleaseRecord) -> UPath | None:
        """Nothing waits for them, and no fault of them makes a release fail that is complete."""
        try:
            return self._notes.write(release, record)
        except KeyboardInterrupt:
            raise ReleaseInterrupted(
                f"the release of build {release.build} is complete; its notes are not",
                hint=f"Run `aml-images release {release.build}` again to write them.",
            ) from None
        except (FactoryError, OSError) as error:
            self._report(f"The release notes could not be written: {error}. Release it again to write them.")
            return None

    def _begun(
        self, release: ReleaseJson, changes: tuple[TagChange, ...], outside_window: str, accepted: tuple[str, ...]
    ) -> ReleaseRecord:
        return ReleaseRecord(
            number=0,
            action="release",
            begun=None,
            who=self._who,
            when=datetime.now(UTC),
            build=release.build,
            commit=release.commit,
            built=release.created,
            release_tag=release.release_tag,
            changes=changes,
            outside_window=outside_window,
            accepted_major=accepted,
        )

    def _claim(self, release: ReleaseJson) -> None:
        """Keep the build for its release; a build that this store does not have is never cleaned up here."""
        if self._backends.artifacts.build(release.build).read_build() is not None:
            claim(release.build, self._backends.artifacts)

    def _still_complete(self, release: ReleaseJson) -> None:
        """A build that is cleaned up meanwhile is not released; one that this store does not know, was not."""
        if self._backends.artifacts.build(release.build).read_build() is not None:
            completed(release.build, self._backends.artifacts)


def check_window(settings: Settings, outside_window: str, now: datetime) -> None:
    """Refuse to start a release outside of the release windows.

    Args:
        settings: The windows.
        outside_window: Why it is released anyway; empty if it is not.
        now: The time.

    Raises:
        BadInput: No window is open, and no reason is given.
    """
    closed = window_closed(settings, now)
    if closed and not outside_window:
        raise BadInput(
            closed,
            where="release.windows",
            hint="Wait, or say why with --outside-window REASON, which is recorded.",
        )


def window_closed(settings: Settings, now: datetime) -> str:
    """Why no release may start now; empty when one may."""
    windows, zone = settings.release.release_windows, settings.release.time_zone
    local = now.astimezone(ZoneInfo(zone))
    if not windows or any(window.contains(local) for window in windows):
        return ""
    return f"it is {local:%a %H:%M} in {zone}; releases start {settings.release.windows}"


def check_unmoved(latest: Reference, known: Collection[str | None], production: Registry) -> None:
    """Refuse to move a `:latest` that a client without the lease has moved: a drop, or a person.

    Args:
        latest: The tag.
        known: What it pointed to when this change of production began, and what it is to point to.
        production: The registry.

    Raises:
        BadInput: It points to something else now.
    """
    served = production.digest(latest)
    if served not in known:
        raise BadInput(
            f"{latest.repository}:{latest.tag} changed to {served or 'nothing'} during this change",
            where=latest.registry,
            hint="Another client changes production. Check what it serves, and start again.",
        )


@contextmanager
def exclusively(
    backends: Backends, settings: Settings, who: str, purpose: str, report: Callable[[str], None]
) -> Iterator[Lease]:
    """A context in which no other process changes production.

    Raises:
        BadInput: Another process does for too long.
    """
    folder = Ledger(backends.artifacts).folder / "lease"
    with Lease(folder, who, purpose, wait_seconds=settings.release.wait_minutes * 60, report=report) as lease:
        yield lease


def _tested(release: ReleaseJson) -> list[Tested]:
    return [
        Tested(
            Reference.parse(image.staging.reference).name,
            image.staging.digest,
            image.destinations,
            [each.digest for each in image.evidence],
        )
        for image in release.images
    ]


class _Production:
    """The production registry, as `import_all` sees it.

    Args:
        backends: The registry, and the way into it.
        changes: What each tag points to, and is to point to.
        lease: Checked before each change.
    """

    def __init__(self, backends: Backends, changes: Iterable[TagChange], lease: Lease) -> None:
        self._registry = backends.production
        self._staging = backends.staging
        self._importer = backends.importer
        self._before = {change.name: change.before for change in changes}
        self._lease = lease

    def digest(self, name: str) -> str | None:
        return self._registry.digest(self._reference(name))

    def bring(self, image: Tested, name: str, *, replace: bool) -> None:
        source = Reference.parse(f"{image.source}@{image.digest}")
        self._lease.check()
        if replace:
            check_unmoved(self._reference(name), (self._before[name], image.digest), self._registry)
        self._importer.import_image(source, self._reference(name), replace=replace)

    def bring_evidence(self, image: Tested, repository: str) -> None:
        source = Reference.parse(f"{image.source}@{image.digest}")
        if image.evidence:
            copy(self._staging, self._registry, source, repository, self._bring_untagged)

    def _bring_untagged(self, artifact: Reference, repository: str) -> None:
        self._lease.check()
        self._importer.import_untagged(artifact, repository)

    def _reference(self, name: str) -> Reference:
        repository, _, tag = name.rpartition(":")
        return Reference(self._registry.host, repository, tag)


@contextmanager
def _explained(release: ReleaseJson, changes: Sequence[TagChange], production: _Production) -> Iterator[None]:
    """Say how an incomplete release continues, and how far an interrupted one came."""
    again = f"Run `aml-images release {release.build}` again: it continues where it stopped."
    try:
        yield
    except KeyboardInterrupt:
        raise ReleaseInterrupted(
            f"the release of build {release.build} was interrupted: {_moved(changes, production)}", hint=again
        ) from None
    except (FactoryError, ImportRefused, OSError) as error:
        where, what = (error.where, error.what) if isinstance(error, FactoryError) else ("", str(error))
        raise ReleaseFailed(
            f"the release of build {release.build} did not complete: {what}",
            where=where,
            hint=f"Every :latest points to an image of a complete build. {_only_hint(error) or again}",
        ) from None


def _moved(changes: Sequence[TagChange], production: _Production) -> str:
    """Which tags of a release production serves."""
    try:
        moved = [change.name for change in changes if production.digest(change.name) == change.after]
    except FactoryError:
        return "production does not say now which of its tags are there"
    if not moved:
        return f"none of its {counted(len(changes), 'tag')} is there"
    return f"{len(moved)} of its {counted(len(changes), 'tag')} are there:\n  " + "\n  ".join(moved)


def _only_hint(error: Exception) -> str:
    """The hint where repeating the release would not help."""
    return error.hint if isinstance(error, BadInput) else ""
