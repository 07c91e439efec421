"""All or nothing: take a build back, whatever of it is left, and prove by reading back that nothing is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aml_images_dagster.build.artifacts import BuildFolder, write_atomically
from aml_images_dagster.build.naming import split_staging_tag
from aml_images_dagster.build.records import BuildStatus, Record
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aml_images_dagster.build.parts import Parts

Outcome = Literal["removed", "digest kept, tag removed", "left"]


class CleanupRow(Record):
    """One thing that was found.

    Attributes:
        kind: What it is.
        name: Its name.
        outcome: What became of it.
        detail: Why it was left; else empty.
    """

    kind: Literal["job", "staged image", "release file"]
    name: str
    outcome: Outcome
    detail: str = ""


class CleanupReport(Record):
    """`cleanup.json`: what a clean-up found and did.

    Attributes:
        build: The build.
        rows: Everything that was found.
        clean: Whether reading back showed nothing of the build.
    """

    build: str
    rows: tuple[CleanupRow, ...]
    clean: bool


def cleanup(build: str, parts: Parts, status: BuildStatus) -> CleanupReport:
    """Remove everything that a build has in staging and on its test machines, and its release files.

    May be called any number of times, by anybody, while others do the same. A digest that another tag
    refers to is kept; only this build's tag goes.

    Args:
        build: The build's number.
        parts: Where to look.
        status: What the build's record is to say.
    """
    folder = parts.artifacts.build(build)
    # First of all, because steps that have not begun yet look here before they begin.
    folder.finish(status)
    rows: list[CleanupRow] = []
    rows += _attempt("release file", build, lambda: _release_files(folder))
    rows += _attempt("job", build, lambda: _jobs(build, parts))
    rows += _attempt("staged image", build, lambda: _staged_images(build, parts))
    clean = not any(row.outcome == "left" for row in rows) and not _left(build, parts)
    report = CleanupReport(build=build, rows=tuple(rows), clean=clean)
    if folder.read_build() is not None:
        write_atomically(folder.root / "cleanup.json", (report.model_dump_json(indent=2) + "\n").encode())
    return report


def _attempt(
    kind: Literal["job", "staged image", "release file"], build: str, remove: Callable[[], list[CleanupRow]]
) -> list[CleanupRow]:
    """One kind that can't be removed must not keep the others from being removed."""
    try:
        return remove()
    except FactoryError as error:
        return [CleanupRow(kind=kind, name=build, outcome="left", detail=str(error))]


def _release_files(folder: BuildFolder) -> list[CleanupRow]:
    return [CleanupRow(kind="release file", name=name, outcome="removed") for name in folder.remove_release_files()]


def _jobs(build: str, parts: Parts) -> list[CleanupRow]:
    return [CleanupRow(kind="job", name=name, outcome="removed") for name in parts.runner.cancel(build)]


def _staged_images(build: str, parts: Parts) -> list[CleanupRow]:
    rows = []
    for reference in staged_references(build, parts):
        outcome = _remove(reference, parts)
        rows.append(CleanupRow(kind="staged image", name=str(reference), outcome=outcome))
    return rows


def _remove(reference: Reference, parts: Parts) -> Outcome:
    staging = parts.staging
    digest = staging.digest(reference)
    if digest is None:
        return "removed"
    name = reference.tag.rpartition("--")[0]
    siblings = (
        tag
        for tag in staging.tags(reference.repository)
        if tag != reference.tag and tag.startswith(f"{name}--") and split_staging_tag(tag)
    )
    if any(staging.digest(reference.with_tag(tag)) == digest for tag in siblings):
        staging.untag(reference)
        return "digest kept, tag removed"
    staging.delete(reference.with_digest(digest))
    return "removed"


def staged_references(build: str, parts: Parts) -> Iterable[Reference]:
    """Every staging tag of a build that the registry has."""
    record = parts.artifacts.build(build).read_build()
    families = sorted({image.partition("/")[0] for image in record.images}) if record else parts.staging.repositories()
    for family in families:
        for tag in parts.staging.tags(family):
            split = split_staging_tag(tag)
            if split and split[1] == build:
                yield Reference(parts.staging.host, family, tag)


def _left(build: str, parts: Parts) -> bool:
    try:
        return bool(list(staged_references(build, parts)) or parts.runner.live(build))
    except FactoryError:
        return True
