"""The schedules of a repository: every file of `schedules/` that is right, and what is wrong with the others."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dependents import Reasons, with_descendants
from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.validated_file import read_model_file
from aml_images_dagster.schedules.schedule_file import ScheduleFile

if TYPE_CHECKING:
    from datetime import date

    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

FOLDER = "schedules"
"""Where the files are, at the top of a repository."""
_ENDING = ".yaml"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule.

    Attributes:
        path: Its file, relative to the repository.
        file: What the file says.
    """

    path: str
    file: ScheduleFile

    @property
    def dagster_name(self) -> str:
        """Its name in Dagster, which no sensor may have as well."""
        return f"{self.file.name}_schedule"

    def chooses(self, image: Image, today: date) -> bool:
        """Whether an image is one of those that the file selects."""
        wanted = self.file.selection
        named = image.id in wanted.images
        return (
            (wanted.os is None or image.os == wanted.os)
            and (named or not wanted.images or any(fnmatchcase(image.id, pattern) for pattern in wanted.images))
            and (named or not image.is_past_end_of_life(today))
        )

    def images(self, catalog: Catalog, today: date) -> Reasons:
        """What is built, with the reasons: what the file selects, and what is FROM it."""
        reason = f"schedule {self.file.name}"
        chosen = {image.id: (reason,) for image in catalog.images.values() if self.chooses(image, today)}
        return with_descendants(chosen, catalog, today)[0]

    def release_by(self, tick: datetime) -> datetime:
        """The end of the day of a build, in the time zone of the schedule."""
        return datetime.combine(tick.date() + timedelta(days=1), time(), tick.tzinfo)


@dataclass(frozen=True, slots=True)
class Timetable:
    """All schedules of a repository.

    Attributes:
        schedules: Those whose files are right, by name.
        findings: Everything that is wrong, by file and line.
    """

    schedules: tuple[Schedule, ...]
    findings: tuple[Finding, ...]

    def stale_after(self, image: Image, today: date) -> timedelta | None:
        """After which time without a build an image is stale; None when no schedule says so."""
        days = [
            schedule.file.stale_after_days
            for schedule in self.schedules
            if schedule.file.stale_after_days is not None and schedule.chooses(image, today)
        ]
        return timedelta(days=min(days)) if days else None


def read_timetable(tree: Tree, catalog: Catalog) -> Timetable:
    """Read every schedule of a tree.

    Args:
        tree: The source; it need not have the folder.
        catalog: The images of the tree.
    """
    files = [path for path in tree.files() if path.rpartition("/")[0] == FOLDER]
    findings = [
        Finding("", "warning", f"only files that end in {_ENDING} are read here", path)
        for path in files
        if not path.endswith(_ENDING)
    ]
    by_name: dict[str, Schedule] = {}
    for path, content in tree.read_many(path for path in files if path.endswith(_ENDING)):
        file, faults = read_model_file(ScheduleFile, content, path)
        findings += faults
        if file is None:
            continue
        if file.name in by_name:
            message = f"name: {file.name!r} is also the name of {by_name[file.name].path}"
            findings.append(Finding("", "error", message, path))
            continue
        by_name[file.name] = Schedule(path, file)
        findings += _unknown_images(by_name[file.name], catalog)
    return Timetable(
        tuple(by_name[name] for name in sorted(by_name)),
        tuple(sorted(findings, key=lambda finding: (finding.path, finding.line or 0, finding.message))),
    )


def _unknown_images(schedule: Schedule, catalog: Catalog) -> list[Finding]:
    """A schedule runs with the images that are left: one that stops altogether would be noticed too late."""
    findings = []
    for pattern in schedule.file.selection.images:
        if any(fnmatchcase(image, pattern) for image in catalog.images):
            continue
        close = difflib.get_close_matches(pattern, catalog.images, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        message = f"selection.images: no image is named {pattern!r}{hint}"
        findings.append(Finding("", "error", message, schedule.path, stops_build=False))
    return findings
