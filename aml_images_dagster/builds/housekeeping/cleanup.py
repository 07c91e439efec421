"""Cleanup of a build: remove everything that is left of it, and verify that nothing remains."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, field_validator

from aml_images_dagster.builds.artifacts import BuildFolder, DamagedRecord, read_whole, write_atomically
from aml_images_dagster.builds.housekeeping.repair import repair
from aml_images_dagster.builds.ledger import Ledger, is_claimed
from aml_images_dagster.builds.naming import split_staging_tag, staging_reference, temporary_prefix
from aml_images_dagster.builds.records import ENDED, Account, BuildFailure, BuildRecord, EndStatus
from aml_images_dagster.builds.steps.reuse import forget
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, FactoryError, Unreachable
from aml_images_dagster.registry.platforms import manifests_below
from aml_images_dagster.trust.referrers import delete, detach, lists, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import BaseImage, StagedImage

Kind = Literal[
    "record",
    "release file",
    "job",
    "staged image",
    "orphaned evidence",
    "temporary folder",
    "unfinished image",
    "build",
]
Outcome = Literal["removed", "digest kept, tag removed", "repaired", "left", "kept"]

_PARTS_AT_ONCE = 10
"""Builds that push the same bytes wait a minute for their deletion."""


class CleanupRow(Account):
    """One thing that was found.

    Attributes:
        kind: What it is.
        name: Its name.
        outcome: What became of it.
        detail: Why it was left; else empty.
    """

    kind: Kind
    name: str
    outcome: Outcome
    detail: str = ""

    @field_validator("outcome", mode="before")
    @classmethod
    def _of_an_earlier_version(cls, value: object) -> object:
        return "repaired" if value == "made anew" else value


class CleanupReport(Account):
    """`cleanup.json`: what a cleanup found and did.

    Attributes:
        build: The build.
        rows: Everything that was found.
        clean: Whether reading back showed nothing of the build.
        attempts: How often in a row it was not clean; 0 when it is.
        finished: When the cleanup ended, UTC.
    """

    build: str
    rows: tuple[CleanupRow, ...]
    clean: bool
    attempts: int
    finished: AwareDatetime

    @property
    def is_news(self) -> bool:
        """Whether it is reported: of attempts in a row that removed nothing only the first, second, fourth … are."""
        is_repeated = self.attempts.bit_count() == 1  # the 1st, 2nd, 4th, 8th …
        return self.clean or is_repeated or any(row.outcome != "left" for row in self.rows)


def cleanup(
    build: str,
    backends: Backends,
    status: EndStatus,
    failure: BuildFailure | None = None,
    *,
    even_if_kept: bool = False,
    even_if_released: bool = False,
    now: datetime | None = None,
) -> CleanupReport:
    """Remove everything that a build has in staging and on its test machines, and its release files.

    May be called any number of times, also by several processes at once. A digest that another tag
    refers to is kept; only this build's tag is removed. Of a build that is kept for inspection only the
    release files are removed until its time is over, so that it can never be released. A released build, or one whose
    release is starting, is not changed.

    Args:
        build: The build's number.
        backends: Where to look.
        status: What the build's record is to say.
        failure: Why it failed, unless that is known already.
        even_if_kept: Do not wait until a kept build's time is over.
        even_if_released: Clean up a released build as well, because a person wants it.
        now: The time, UTC; the clock's unless given.

    Returns:
        What was found and done now; `cleanup.json` has earlier cleanups as well.
    """
    folder, now = backends.artifacts.build(build), now or datetime.now(UTC)
    report = _clean_up(folder, backends, status, failure, even_if_kept, even_if_released, now)
    # The janitor may have settled it a moment ago, by what it had read before.
    with suppress(OSError, FactoryError):  # as when it began; the report says so
        backends.artifacts.unsettle(build)
    return report


def _clean_up(
    folder: BuildFolder,
    backends: Backends,
    status: EndStatus,
    failure: BuildFailure | None,
    even_if_kept: bool,
    even_if_released: bool,
    now: datetime,
) -> CleanupReport:
    build = folder.build
    rows = _attempt("record", build, lambda: _readable(folder, backends))
    if not any(row.kind == "build" for row in rows):
        # First of all, because steps and releases that have not begun yet look here before they begin.
        rows += _attempt("record", build, lambda: _end(folder, backends, status, failure, even_if_released, now))
    if any(row.kind == "build" for row in rows):
        return _report(folder, rows)
    rows += _attempt("release file", build, lambda: _release_files(folder))
    record = _record(folder)
    until = record.keep_until if record and not even_if_kept else None
    if until and until > now:
        detail = f"kept for inspection until {until:%Y-%m-%d %H:%M} UTC, or until `aml-images cleanup {build}`"
        return _report(folder, [*rows, CleanupRow(kind="build", name=build, outcome="kept", detail=detail)])
    rows += _attempt("job", build, lambda: _jobs(build, backends))
    # Before the staged images: what still builds elsewhere would push after they are gone.
    rows += _attempt("unfinished image", build, lambda: _unfinished(build, backends))
    rows += _attempt("staged image", build, lambda: _staged_images(build, backends))
    rows += _attempt("temporary folder", build, lambda: _temporary_folders(build))
    rows += _attempt("record", build, lambda: _close_jobs(folder))
    if _is_clean(rows):
        rows += _attempt("build", build, lambda: _read_back(folder, backends, status))
    return _report(folder, rows)


def not_done(folder: BuildFolder, error: Exception) -> CleanupReport:
    """The report of a cleanup that could not begin."""
    return _report(folder, [CleanupRow(kind="build", name=folder.build, outcome="left", detail=_told(error))])


def _report(folder: BuildFolder, rows: Sequence[CleanupRow]) -> CleanupReport:
    """Report what was done now, and add it to `cleanup.json`."""
    last = read_report(folder)
    clean = _is_clean(rows)
    report = CleanupReport(
        build=folder.build,
        rows=tuple(dict.fromkeys(rows)),
        clean=clean,
        attempts=0 if clean else 1 + (last.attempts if last else 0),
        finished=datetime.now(UTC),
    )
    before = [row for row in last.rows if row.outcome not in ("left", "kept")] if last else []
    story = report.model_copy(update={"rows": tuple(dict.fromkeys([*before, *report.rows]))})
    with suppress(OSError, FactoryError):  # on a full disk the report is still returned
        if folder.root.exists():
            write_atomically(folder.root / "cleanup.json", (story.model_dump_json(indent=2) + "\n").encode())
    return report


def read_report(folder: BuildFolder) -> CleanupReport | None:
    """What the last cleanup of a build found; None when there was none, or it cannot be read."""
    try:
        return CleanupReport.model_validate_json(read_whole(folder.root / "cleanup.json"))
    except (OSError, ValueError, FactoryError):
        return None


def not_clean(artifacts: Artifacts) -> list[str]:
    """Builds whose last cleanup left something: it is tried again, and until then they count as unhealthy."""
    return [folder.build for folder in artifacts.unsettled() if (last := read_report(folder)) and not last.clean]


def _is_clean(rows: Sequence[CleanupRow]) -> bool:
    return all(row.outcome != "left" for row in rows)


def _attempt(kind: Kind, name: str, remove: Callable[[], list[CleanupRow]]) -> list[CleanupRow]:
    """An item that cannot be removed must not prevent the removal of the others."""
    try:
        return remove()
    except Exception as error:  # noqa: BLE001 - it is reported
        return [CleanupRow(kind=kind, name=name, outcome="left", detail=_told(error))]


def _told(error: Exception) -> str:
    """The text of an error, with its type if it is unexpected."""
    return str(error) if isinstance(error, FactoryError | OSError) else f"{type(error).__name__}: {error}"


def _readable(folder: BuildFolder, backends: Backends) -> list[CleanupRow]:
    backends.artifacts.unsettle(folder.build)
    try:
        folder.read_build()
    except DamagedRecord:
        repair(folder, backends)
        return [CleanupRow(kind="record", name="build.json", outcome="repaired")]
    except BadInput as error:  # of a newer version, which knows what of the build has to stay
        return [CleanupRow(kind="build", name=folder.build, outcome="left", detail=_told(error))]
    return []


def _end(
    folder: BuildFolder,
    backends: Backends,
    status: EndStatus,
    failure: BuildFailure | None,
    even_if_released: bool,
    now: datetime,
) -> list[CleanupRow]:
    """Record how the build ended; return a row that it is kept, if it is released.

    Of the expiry of a build and its release the first decision counts (`BuildFolder.decide`), unless that is the claim
    of a release that has died. The ledger is read as well, because earlier versions released builds without such a
    decision; also after it, in case a release has begun its record meanwhile: it reads the status after that, and
    before it changes production, so one of the two sees the other.
    """
    record = _record(folder)
    if even_if_released:
        folder.finish(status, failure)
        if _is_said_to_be_released(folder):
            folder.overrule(status)
            folder.finish(status, failure)
        return []
    if record is not None and record.status != "succeeded":
        folder.finish(status, failure)
        if not _is_said_to_be_released(folder):
            return []
    try:
        is_released = folder.build in Ledger(backends.artifacts).released_builds()
        if not is_released and record is None:  # none, or one that cannot be read now: a release may still have begun
            is_released = _is_said_to_be_released(folder)
        elif not is_released:
            outcome = folder.decide(status, failure)
            is_released = outcome.status == "released" and is_claimed(folder, now)
            if not is_released:
                if outcome.status == "released":
                    folder.overrule(status)
                if folder.build in Ledger(backends.artifacts).released_builds():
                    folder.overrule("released")
                    is_released = True
    except Exception as error:  # noqa: BLE001 - whatever it is: what may be released is not deleted
        return _kept(folder, f"cannot find out whether it is released: {_told(error)}", "left")
    if is_released:
        return _kept(folder)
    folder.finish(status, failure)
    return []


def _is_said_to_be_released(folder: BuildFolder) -> bool:
    outcome = folder.read_outcome()
    return outcome is not None and outcome.status == "released"


def _kept(
    folder: BuildFolder,
    because: str = "it is released or being released",
    outcome: Outcome = "kept",
) -> list[CleanupRow]:
    detail = f"{because}; `aml-images cleanup {folder.build} --force` cleans it up anyway"
    return [CleanupRow(kind="build", name=folder.build, outcome=outcome, detail=detail)]


def _release_files(folder: BuildFolder) -> list[CleanupRow]:
    return [CleanupRow(kind="release file", name=name, outcome="removed") for name in folder.remove_release_files()]


def _jobs(build: str, backends: Backends) -> list[CleanupRow]:
    return [CleanupRow(kind="job", name=name, outcome="removed") for name in backends.runner.cancel(build)]


def _staged_images(build: str, backends: Backends) -> list[CleanupRow]:
    whole, parts = (*staged_references(build, backends), *_untagged(build, backends)), _parts_left(build, backends)
    rows = [
        row
        for reference in whole
        for row in _attempt("staged image", str(reference), partial(_staged_image, reference, build, backends))
    ]
    for image, left in parts.items():
        for first in range(0, len(left), _PARTS_AT_ONCE):
            some = left[first : first + _PARTS_AT_ONCE]
            rows += _attempt("staged image", str(image), partial(_remove_parts, image, some, backends))
    return rows


def _staged_image(reference: Reference, build: str, backends: Backends) -> list[CleanupRow]:
    outcome = _remove(reference, backends.artifacts.build(build), backends)
    return [CleanupRow(kind="staged image", name=str(reference), outcome=outcome)]


def _untagged(build: str, backends: Backends) -> list[Reference]:
    """Images of a build that staging holds without any tag: a cleanup was killed before it could delete them."""
    folder, is_there = backends.artifacts.build(build), _presence(backends)
    found = []
    for image in _images(folder):
        tagged: StagedImage | BaseImage | None = None
        with suppress(FactoryError):  # a damaged record has no information
            tagged = folder.read_staged(image) or folder.read_parent(image)
        if tagged is not None:
            reference = Reference.parse(tagged.reference)
            digest = reference.with_digest(tagged.digest)
            if is_there(digest) and not _is_shared(reference, tagged.digest, backends, and_own_tag=True):
                found.append(digest)
    return found


def _parts_left(build: str, backends: Backends) -> dict[Reference, list[str]]:
    """What staging holds of an image without it: a push or a step has ended too early, or a cleanup.

    Returns:
        By the image's staging tag, the digests of images of an index without that, and of artifacts that are attached
        to nothing.
    """
    folder, is_there = backends.artifacts.build(build), _presence(backends)
    found = {}
    for image in _images(folder):
        family, _, name = image.partition("/")
        own = staging_reference(backends.staging.host, family, name, build)
        there = [digest for digest in folder.untagged(image) if is_there(own.with_digest(digest))]
        kept = _referenced(own, backends, and_own_tag=True) if there else ()
        if left := [digest for digest in there if digest not in kept]:
            found[own] = left
    return found


def _remove_parts(image: Reference, digests: Sequence[str], backends: Backends) -> list[CleanupRow]:
    """Remove what is left of an image, unless a tag leads to it again. To look for that is dear, so all at once."""
    rows = []
    with backends.artifacts.deletion(*digests):  # see _remove
        for digest in digests:
            forget(image.with_digest(digest), backends)
        kept = _referenced(image, backends, and_own_tag=True)
        for part in map(image.with_digest, digests):
            rows += _attempt("staged image", str(part), partial(_remove_part, part, kept, backends))
    return rows


def _remove_part(part: Reference, kept: Collection[str], backends: Backends) -> list[CleanupRow]:
    if part.digest in kept:
        return [CleanupRow(kind="staged image", name=str(part), outcome="digest kept, tag removed")]
    delete(backends.staging, part)
    return [CleanupRow(kind="staged image", name=str(part), outcome="removed")]


def _presence(backends: Backends) -> Callable[[Reference], bool]:
    """Whether staging has a manifest, or still the index of what was attached to it.

    A process that was killed may have sent the index before, and it arrives after a cleanup.
    """
    staging = backends.staging
    listed = cache(partial(lists, staging))
    return lambda image: image.digest in listed(image.repository) or staging.digest(image) is not None


def remove_orphans(repository: str, backends: Backends) -> list[CleanupRow]:
    """Remove what is attached to images that are gone: what deletes an image may know of no evidence.

    Args:
        repository: In staging.
        backends: Where to look.

    Returns:
        What was found. What could not be removed is found again by the next call.
    """
    return _attempt("orphaned evidence", repository, lambda: _orphans(repository, backends))


def _orphans(repository: str, backends: Backends) -> list[CleanupRow]:
    staging, rows = backends.staging, []
    for digest in sorted(lists(staging, repository)):
        image = Reference(staging.host, repository, digest=digest)
        if staging.digest(image) is None:
            with backends.artifacts.deletion(digest):  # a build may be pushing the same image, see _remove
                if staging.digest(image) is None and detach(staging, image):
                    rows.append(CleanupRow(kind="orphaned evidence", name=str(image), outcome="removed"))
    return rows


def _temporary_folders(build: str) -> list[CleanupRow]:
    """Leftovers of a killed step on this machine."""
    rows = []
    for folder in Path(tempfile.gettempdir()).glob(f"{temporary_prefix(build)}*"):
        shutil.rmtree(folder, ignore_errors=True)
        rows.append(
            CleanupRow(kind="temporary folder", name=str(folder), outcome="left" if folder.exists() else "removed")
        )
    return rows


def _unfinished(build: str, backends: Backends) -> list[CleanupRow]:
    """Leftovers of a killed build at the builders, from before its push or from a remote build."""
    folder = backends.artifacts.build(build)
    for image in _images(folder):
        family, _, name = image.partition("/")
        reference = staging_reference(backends.staging.host, family, name, build)
        for builder in filter(None, (backends.builder, backends.windows_builder)):
            builder.abandon(str(reference), folder.read_remote_work(image))
    return []


def _close_jobs(folder: BuildFolder) -> list[CleanupRow]:
    """End the jobs of a killed step."""
    for job in folder.jobs():
        if job.status == "submitting":
            folder.write_job(job.model_copy(update={"status": "canceled", "finished": datetime.now(UTC)}))
    return []


def _remove(reference: Reference, folder: BuildFolder, backends: Backends) -> Outcome:
    """Remove a tag, and the image behind it unless it is shared.

    The tag is removed first, and then other tags of the image are checked: of two builds that share an image and are
    cleaned up at once the last one deletes it. Once no build can reuse it any more (steps/reuse.py), its tags are
    checked again: a build may have tagged it meanwhile.
    """
    staging = backends.staging
    digest = reference.digest or staging.digest(reference)
    if digest is None:
        staging.untag(reference)  # it may be listed still, and lead nowhere
        return "removed"
    if not reference.digest:
        # Without its tag no record may name it: a step that has ended too early has pushed it, and written nothing.
        folder.write_untagged(_image_of(reference, folder), digest)
        try:
            staging.untag(reference)
        except Unreachable:
            if staging.digest(reference.with_digest(digest)) is not None:
                raise
            return "removed"  # by the one who came last, while we looked
        if _is_shared(reference, digest, backends):
            return "digest kept, tag removed"
    # A build of the same commit may be pushing the same image. After its push it looks whether the image is being
    # deleted (steps/staging.py), and this looks for its tag after having said so: one of the two notices the other.
    whole = reference.with_digest(digest)
    parts = manifests_below(staging, whole)
    with backends.artifacts.deletion(digest, *parts):
        forget(whole, backends)
        if _is_shared(reference, digest, backends) or (reference.digest and digest in _referenced(reference, backends)):
            return "digest kept, tag removed"
        for part in (*parts, *(attached.digest for attached in walk(staging, whole))):
            folder.write_untagged(_image_of(reference, folder), part)  # this process may end before it deletes them
        delete(staging, whole)
        # After the index, because registries may refuse to delete what it refers to.
        kept = _referenced(reference, backends) if parts else ()
        for part in parts:
            if part not in kept:
                delete(staging, reference.with_digest(part))
    return "removed"


def _image_of(reference: Reference, folder: BuildFolder) -> str:
    """The image whose records name what is left of an index: one of the family, where the digest alone is known."""
    split = split_staging_tag(reference.tag)
    in_family = (image for image in _images(folder) if image.startswith(f"{reference.repository}/"))
    return f"{reference.repository}/{split[0]}" if split else next(in_family)


def _is_shared(reference: Reference, digest: str, backends: Backends, *, and_own_tag: bool = False) -> bool:
    """Whether another tag names a digest."""
    tags = [tag for tag in backends.staging.tags(reference.repository) if _may_share(tag, reference)]
    candidates = (*tags, *((reference.tag,) if and_own_tag else ()))
    return any(backends.staging.digest(reference.with_tag(tag)) == digest for tag in candidates)


def _referenced(reference: Reference, backends: Backends, *, and_own_tag: bool = False) -> set[str]:
    """Digests of everything that the tags of an image refer to: images, indexes, their images, what is attached."""
    staging = backends.staging
    tags = [tag for tag in staging.tags(reference.repository) if _may_share(tag, reference)]
    tagged = [reference.with_tag(tag) for tag in (*tags, *((reference.tag,) if and_own_tag else ()))]
    found = {digest for tag in tagged if (digest := staging.digest(tag))}
    for whole in [reference.with_digest(digest) for digest in found]:
        found.update(manifests_below(staging, whole), (attached.digest for attached in walk(staging, whole)))
    return found


def _may_share(tag: str, reference: Reference) -> bool:
    """Whether a tag can point to the same digest: the same image of another build, or a tag that a person gave.

    Other images never do, because the labels of an image name it; so their many tags need not be looked up.
    """
    ours, split = split_staging_tag(reference.tag), split_staging_tag(tag)
    return tag != reference.tag and (ours is None or split is None or split[0] == ours[0])


def staged_references(build: str, backends: Backends) -> list[Reference]:
    """Every staging tag of a build that the registry has.

    Raises:
        Unreachable: The registry does not answer.
    """
    return [
        Reference(backends.staging.host, family, tag)
        for family in _families(build, backends)
        for tag in backends.staging.tags(family)
        if (split := split_staging_tag(tag)) and split[1] == build
    ]


def _families(build: str, backends: Backends) -> Sequence[str]:
    """Where images of a build can be, from its records; without a readable record, everywhere."""
    folder = backends.artifacts.build(build)
    if _record(folder) is None:
        return backends.staging.repositories()
    return sorted({image.partition("/")[0] for image in _images(folder)})


def _images(folder: BuildFolder) -> Sequence[str]:
    """The images that a build was started for, and any other that it has a record of."""
    record = _record(folder)
    return sorted({*(record.images if record else ()), *folder.images()})


def anything_left(build: str, backends: Backends) -> bool:
    """Whether a build has anything in staging or on its test machines.

    Raises:
        Unreachable: The registry or the engine does not answer.
    """
    return bool(staged_references(build, backends) or _parts_left(build, backends) or backends.runner.live(build))


def _read_back(folder: BuildFolder, backends: Backends, status: EndStatus) -> list[CleanupRow]:
    """What exists again although its removal succeeded."""
    # The release files were being written, and their step had read the record just before this cleanup changed it.
    record = _record(folder)
    if record is not None and record.status not in ENDED:
        folder.finish(status)
    rows = _release_files(folder)
    parts = (own.with_digest(digest) for own, left in _parts_left(folder.build, backends).items() for digest in left)
    left = [*map(str, staged_references(folder.build, backends)), *map(str, parts), *backends.runner.live(folder.build)]
    rows += [CleanupRow(kind="build", name=name, outcome="left", detail="it is there again") for name in left]
    return rows


def _record(folder: BuildFolder) -> BuildRecord | None:
    try:
        return folder.read_build()
    except (FactoryError, OSError):
        return None
