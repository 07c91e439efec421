"""The number of the release on its day that a build takes unless it is given one.

A release tag never moves: the second build of an image on a day would be refused at its release if it had the number of
the first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aml_images_dagster.builds.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import date

    from aml_images_dagster.builds.artifacts import Artifacts

_MAY_BE_RELEASED = ("running", "succeeded", "expired")


def next_release_num(day: date, images: Collection[str], artifacts: Artifacts, promised: Iterable[int] = ()) -> int:
    """The first number of a day that none of the images has, nor any number after it.

    Args:
        day: The day in UTC on which the build starts.
        images: What it builds.
        artifacts: Knows the releases, and the builds of the day.
        promised: Numbers of builds of these images that have yet to begin.

    Raises:
        BadInput: A record of the day, or of a release, cannot be read.
    """
    wanted = frozenset(images)
    today = [folder for folder in artifacts.folders() if folder.build.startswith(f"{day:%Y%m%d}.")]
    builds = [record for folder in today if (record := folder.read_build())]
    tags = {build.release_tag for build in builds if build.status in _MAY_BE_RELEASED and wanted & {*build.images}}
    for done in Ledger(artifacts).records():
        tags |= {change.tag for change in done.changes if change.image in wanted}
    numbered = re.compile(rf"{day:%Y%m%d}\.v([0-9]+)")
    taken = {int(match[1]) for match in map(numbered.fullmatch, tags) if match}
    return max((*taken, *promised), default=0) + 1
