"""A damaged `build.json` is made anew from what else there is of the build."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.builds.naming import split_staging_tag
from aml_images_dagster.builds.records import BuildFailure, BuildRecord

if TYPE_CHECKING:
    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.parts import Parts


def heal(folder: BuildFolder, parts: Parts) -> BuildRecord:
    """Write `build.json` anew; what was there is kept beside it, in `build.json.damaged`.

    A build with a release.json is complete and has succeeded. Of any other nobody can say how far it came: it
    has failed, and is to be cleaned up.

    Raises:
        Unreachable: Staging, which tells what images the build has, does not answer.
    """
    record = _released(folder) or _failed(folder, parts)
    path = folder.root / "build.json"
    write_atomically(path.with_name("build.json.damaged"), path.read_bytes())
    folder.write_build(record)
    return record


def _released(folder: BuildFolder) -> BuildRecord | None:
    try:
        release = json.loads((folder.root / "release.json").read_bytes())
        return BuildRecord(
            build=folder.build,
            run_id=_run_id(folder),
            status="succeeded",
            commit=release["commit"],
            source=release["source"],
            created=release["created"],
            release_tag=release["release_tag"],
            images=tuple(f"{image['family']}/{image['name']}" for image in release["images"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, ValidationError):
        return None


def _failed(folder: BuildFolder, parts: Parts) -> BuildRecord:
    staged = {
        f"{family}/{split[0]}"
        for family in parts.staging.repositories()
        for tag in parts.staging.tags(family)
        if (split := split_staging_tag(tag)) and split[1] == folder.build
    }
    return BuildRecord(
        build=folder.build,
        run_id=_run_id(folder),
        status="failed",
        commit="",
        source="",
        created=datetime.strptime(folder.build[:8], "%Y%m%d").replace(tzinfo=UTC),
        release_tag="",
        images=tuple(sorted({*folder.images(), *staged})),
        failure=BuildFailure(step="", message=f"{folder.root / 'build.json'} was damaged"),
    )


def _run_id(folder: BuildFolder) -> str:
    """The beginning of the run's id, which is all that a build's number has of it."""
    return folder.build.partition(".")[2]
