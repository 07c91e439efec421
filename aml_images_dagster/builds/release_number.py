"""The number of the release on its day that a build takes unless it is given one.

A release tag never moves: the second build of an image on a day would be refused at its release if it had the number of
the first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aml_images_dagster.builds.artifacts import read_whole
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from datetime import date

    from aml_images_dagster.builds.artifacts import Artifacts, BuildFolder

_MAY_BE_RELEASED = ("running", "succeeded", "expired")
_RELEASE_TAG = re.compile(rb'"release_tag"\s*:\s*"([^"]*)"')


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
    """Release tags of builds of the day."""
    for folder in artifacts.folders():
        if not folder.build.startswith(f"{day:%Y%m%d}."):
            continue
        try:
            build = folder.read_build()
        except BadInput as error:
            unreadable(error)
            yield from _written(folder)
        else:
            if build and build.status in _MAY_BE_RELEASED and images & {*build.images}:
                yield build.release_tag


def _written(folder: BuildFolder) -> list[str]:
    """The release tag in the text of a record that is damaged, or of a newer version."""
    try:
        return [tag.decode("utf-8", "replace") for tag in _RELEASE_TAG.findall(read_whole(folder.root / "build.json"))]
    except OSError:
        return []
