"""Repair of a damaged `build.json`, from the ledger and the other records of the build."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aml_images_dagster.builds.artifacts import read_whole, write_atomically
from aml_images_dagster.builds.ledger import Ledger, released_images
from aml_images_dagster.builds.naming import split_staging_tag
from aml_images_dagster.builds.records import BuildFailure, BuildRecord

if TYPE_CHECKING:
    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.backends import Backends


UNKNOWN = "unknown"
"""In place of the number of a pull request where it is unknown whether a build was for one."""

_PULL_REQUEST = re.compile(rb'"pull_request"\s*:\s*"([^"]*)"')


def repair(folder: BuildFolder, backends: Backends) -> BuildRecord:
    """Write `build.json` again; what was there is kept beside it, in `build.json.damaged`.

    A build that the ledger has as released was complete. Of any other it is unknown how far it came, and whether it
    was not of a pull request: it has failed, and is to be cleaned up.

    Raises:
        BadInput: A record of the ledger cannot be read.
        Unreachable: Staging, which has the images of the build, does not answer.
    """
    path = folder.root / "build.json"
    damaged = read_whole(path)
    record = _released(folder, backends) or _failed(folder, backends, damaged)
    write_atomically(path.with_name("build.json.damaged"), damaged)
    folder.write_build(record)
    return folder.read_build() or record


def _released(folder: BuildFolder, backends: Backends) -> BuildRecord | None:
    """The record from the ledger: the release has checked that the build was complete before it started."""
    records = [r for r in Ledger(backends.artifacts).records() if (r.action, r.build) == ("release", folder.build)]
    if not records:
        return None
    return BuildRecord(
        build=folder.build,
        run_id=_run_id(folder),
        status="succeeded",
        commit=records[0].commit,
        source="",
        created=records[0].built,
        release_tag=records[0].release_tag,
        images=tuple(sorted(released_images(records))),
    )


def _failed(folder: BuildFolder, backends: Backends, damaged: bytes) -> BuildRecord:
    staged = {
        f"{family}/{split[0]}"
        for family in backends.staging.repositories()
        for tag in backends.staging.tags(family)
        if (split := split_staging_tag(tag)) and split[1] == folder.build
    }
    named = _PULL_REQUEST.search(damaged)
    return BuildRecord(
        build=folder.build,
        run_id=_run_id(folder),
        status="failed",
        commit="",
        source="",
        created=_day(folder),
        release_tag="",
        images=tuple(sorted({*folder.images(), *staged})),
        failure=BuildFailure(step="", message=f"{folder.root / 'build.json'} was damaged"),
        pull_request=named[1].decode("utf-8", "replace") if named else UNKNOWN,
    )


def _run_id(folder: BuildFolder) -> str:
    """The beginning of the run's id, which is all that a build's number has of it."""
    return folder.build.partition(".")[2]


def _day(folder: BuildFolder) -> datetime:
    """The day of the build's number; a folder may have the name of a day that there never was."""
    with suppress(ValueError):
        return datetime.strptime(folder.build[:8], "%Y%m%d").replace(tzinfo=UTC)
    return datetime.fromtimestamp(0, UTC)
