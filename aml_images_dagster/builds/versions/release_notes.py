"""Release notes: what a release changes for users, by image and tag; `notes.json`, and `release_notes.md` for people.

Nothing is shown of a tag that production does not serve with the digest that was released.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from aml_images_dagster.builds.artifacts import read_whole, write_atomically
from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import LATEST, Ledger, released_images
from aml_images_dagster.builds.versions.difference_markdown import sections as difference_sections
from aml_images_dagster.builds.versions.difference_markdown import vulnerabilities_left, who_looked
from aml_images_dagster.builds.versions.image_difference import ImageDifference  # noqa: TC001 - pydantic reads the annotations
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.text import code
from aml_images_dagster.vulnerabilities.vulnerability import VulnerabilityChanges  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from upath import UPath

    from aml_images_dagster.builds.artifacts import Artifacts, BuildFolder
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.ledger import ReleaseRecord, TagChange

PAGE = "release_notes.md"
_FILE = "notes.json"
_LONGEST_WAIT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class ReleaseNotes:
    """The notes of one image under one release tag.

    Attributes:
        image: `<family>/<name>`.
        repository: Its repository in production.
        tag: The release tag.
        digest: What was released.
        released: When the release was complete, UTC.
        build: The build.
        commit: What it was built from.
        who: Who released it.
        reasons: Why it was built.
        accepted_major: Changes that may break users and that a person has accepted.
        since: The release tag that it is compared with; empty where there is none.
        same_as: The release tag under which the same image was released before; else empty.
        difference: What changed since; None for a first release, for the same image, and where that is not known.
        unknown: Why that is not known; else empty.
        vulnerabilities: What is known of vulnerabilities where there is no difference that has them.
    """

    image: str
    repository: str
    tag: str
    digest: str
    released: datetime
    build: str
    commit: str
    who: str
    reasons: tuple[str, ...]
    accepted_major: tuple[str, ...]
    since: str = ""
    same_as: str = ""
    difference: ImageDifference | None = None
    unknown: str = ""
    vulnerabilities: VulnerabilityChanges | None = None


def serves(backends: Backends, repository: str, tag: str, digest: str | None) -> bool:
    """Whether a tag of production points to a digest."""
    production = backends.production
    return bool(tag and digest) and production.digest(Reference(production.host, repository, tag)) == digest


def write_notes(folder: BuildFolder, notes: ReleaseNotes) -> None:
    """Write `notes.json` of an image."""
    write_atomically(folder.image(notes.image) / _FILE, _JSON.dump_json(notes, indent=2))


def read_notes(folder: BuildFolder, image: str) -> ReleaseNotes | None:
    """The notes of an image in the release of a build; None if there are none, or another version has written them."""
    try:
        found = _JSON.validate_json(read_whole(folder.image(image) / _FILE))
    except (FileNotFoundError, ValidationError):
        return None
    return found if (found.image, found.build) == (image, folder.build) else None


def with_notes(records: Iterable[ReleaseRecord], artifacts: Artifacts) -> list[ReleaseRecord]:
    """Records up to the first release that was completed a moment ago and has yet to write its notes.

    For those who show or publish the notes of each release once. A release whose notes failed is not waited for long.
    """
    youngest = datetime.now(UTC) - _LONGEST_WAIT

    def is_complete(record: ReleaseRecord) -> bool:
        is_release = record.done and record.action == "release"
        return not is_release or record.when < youngest or (artifacts.build(record.build).root / PAGE).exists()

    return list(takewhile(is_complete, records))


def served_notes(image: str, backends: Backends) -> list[ReleaseNotes]:
    """The notes of every release tag of an image that production serves as it was released, newest first.

    A tag whose withdrawal has started, whose release is not complete or that serves something else has none.

    Raises:
        BadInput: A record cannot be read.
        Unreachable: Production does not answer.
    """
    history = History(Ledger(backends.artifacts).records())
    found: dict[str, ReleaseNotes] = {}
    for record, change in _releases(history, image):
        notes = read_notes(backends.artifacts.build(record.build), image)
        is_ours = notes is not None and (notes.tag, notes.digest) == (change.tag, change.after)
        if notes and is_ours and change.tag not in found and _is_served(notes, history, backends):
            found[change.tag] = notes
    return list(reversed(found.values()))


def _releases(history: History, image: str) -> Iterator[tuple[ReleaseRecord, TagChange]]:
    for record in history.changes:
        if record.action == "release" and record.done:
            yield from ((record, each) for each in record.changes if each.image == image and each.tag != LATEST)


def _is_served(notes: ReleaseNotes, history: History, backends: Backends) -> bool:
    is_withdrawn = history.withdrawal(f"{notes.repository}:{notes.tag}") is not None
    return not is_withdrawn and serves(backends, notes.repository, notes.tag, notes.digest)


def forget_in_notes(image: str, tag: str, backends: Backends) -> None:
    """Take a tag that is withdrawn out of the pages that name it.

    Raises:
        BadInput: A record cannot be read.
        Unreachable: Production does not answer.
    """
    for record, _ in _releases(History(Ledger(backends.artifacts).records()), image):
        notes = read_notes(backends.artifacts.build(record.build), image)
        if notes and tag in (notes.tag, notes.since, notes.same_as):
            write_page(record.build, sorted(released_images([record])), backends)


def write_page(build: str, images: Iterable[str], backends: Backends) -> UPath:
    """Write `release_notes.md` of a build again, from the notes of its images, and return where it is.

    Raises:
        BadInput: A record cannot be read.
        Unreachable: Production does not answer.
    """
    folder = backends.artifacts.build(build)
    history = History(Ledger(backends.artifacts).records())
    every = [notes for image in images if (notes := read_notes(folder, image))]
    sections = [f"# Release notes of build {build}"]
    for notes in every:
        sections.append(f"## {notes.image}")
        if _is_served(notes, history, backends):
            others = {notes.since, notes.same_as} - {""}
            sections += notes_as_markdown(
                notes, [tag for tag in others if _has(notes.repository, tag, history, backends)]
            )
        else:
            sections.append("Production does not serve this release any more.")
    if not every:
        sections.append("Production serves nothing of it.")
    path = folder.root / PAGE
    write_atomically(path, ("\n\n".join(sections) + "\n").encode())
    return path


def _has(repository: str, tag: str, history: History, backends: Backends) -> bool:
    """Whether production has a tag that nobody is about to withdraw."""
    production = backends.production
    is_withdrawn = history.withdrawal(f"{repository}:{tag}") is not None
    return not is_withdrawn and production.digest(Reference(production.host, repository, tag)) is not None


def notes_as_markdown(notes: ReleaseNotes, served: Collection[str]) -> Iterator[str]:
    """The notes of one image, for those who run the factory; of other tags only those are named that are served."""
    yield (
        f"`{notes.repository}:{notes.tag}`, `{notes.digest}`, released by {code(notes.who)} on "
        f"{notes.released:%Y-%m-%d %H:%M} UTC from build {notes.build}, commit `{notes.commit[:12]}`"
    )
    if notes.reasons:
        yield "**Why it was built**\n\n" + "\n".join(f"- {code(reason)}" for reason in notes.reasons)
    if notes.accepted_major:
        yield f"Accepted by {code(notes.who)}: " + ", ".join(map(code, notes.accepted_major))
    yield from _changes(notes, None, served)


def public_notes(
    notes: ReleaseNotes, published: str, served: Collection[str], public_bases: Iterable[str]
) -> Iterator[str]:
    """The notes of one image, for everybody.

    Args:
        notes: The notes.
        published: The name that users pull, without a tag.
        served: Tags that production serves: no other is named.
        public_bases: Bases that the public Dockerfile names: no other is named.
    """
    yield f"## {notes.tag}"
    yield f"{notes.released:%Y-%m-%d}, `{published}:{notes.tag}`, `{notes.digest}`"
    yield from _changes(notes, public_bases, served)


def _changes(notes: ReleaseNotes, public_bases: Iterable[str] | None, served: Collection[str]) -> Iterator[str]:
    if notes.difference:
        yield f"Changes since {f'`{notes.since}`' if notes.since in served else 'the last release'}:"
        yield from difference_sections(notes.difference, public_bases=public_bases, with_left=True)
        return
    if notes.same_as:
        yield f"The same image as {f'`{notes.same_as}`' if notes.same_as in served else 'one released before'}."
    elif notes.unknown:
        yield "What changed is not known" + (f": {code(notes.unknown)}" if public_bases is None else ".")
    else:
        yield "First release."
    if notes.vulnerabilities:
        yield from vulnerabilities_left(notes.vulnerabilities)
        yield who_looked(notes.vulnerabilities)


_JSON = TypeAdapter(ReleaseNotes)
