"""Release candidates: builds that are complete, traceable, and served by staging as tested."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from aml_images_dagster.builds.artifacts import read_whole
from aml_images_dagster.builds.naming import BUILD_NUMBER
from aml_images_dagster.builds.records import why_unreleasable
from aml_images_dagster.catalog.reference import Reference, short_digest
from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.release_json import ReleaseJson
from aml_images_dagster.text import counted
from aml_images_dagster.trust.signing import trust_of
from aml_images_dagster.trust.verification import verify_image

if TYPE_CHECKING:
    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import BuildRecord
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.settings import Settings

_NOT_COMPLETE = {
    "running": ("is still running", "Wait until it has succeeded: `aml-images status` shows its progress."),
    "partial": ("was started for a part of the chain", "Build the whole chain with `aml-images build`."),
    "failed": ("failed", "Start a new build."),
    "canceled": ("was canceled", "Start a new build."),
    "removed": ("was removed from staging by `aml-images cleanup`", "Start a new build."),
    "expired": ("has left staging because it was not released in time", "Start a new build."),
}


def completed(build: str, artifacts: Artifacts) -> ReleaseJson:
    """release.json of a build that is complete.

    Raises:
        BadInput: There is no such build, it is for a pull request, or it is not complete.
    """
    if not build:
        raise BadInput("no build is named", where="build", hint="Name one; `aml-images builds` shows all builds.")
    folder = artifacts.build(build)
    record = folder.read_build() if BUILD_NUMBER.fullmatch(build) else None
    if record is None:
        raise BadInput(
            f"there is no build {build!r}", where=str(artifacts.root), hint="`aml-images builds` shows all builds."
        )
    if record.pull_request:
        raise BadInput(
            f"build {build} is for pull request {record.pull_request}, and such builds are never released",
            where=str(folder.root),
            hint="Merge it, and build the main branch.",
        )
    if record.status != "succeeded":
        what, hint = _NOT_COMPLETE[record.status]
        raise BadInput(f"build {build} {what}; only a complete build is released", where=str(folder.root), hint=hint)
    try:
        release = ReleaseJson.model_validate_json(read_whole(folder.root / "release.json"))
        if _identity(release) == _identity(record):
            return release
        what = "has the release.json of another build"
    except FileNotFoundError:
        what = "has no release.json, so it is not complete"
    except ValidationError as error:
        what = f"has a release.json that is damaged or of another version: {counted(error.error_count(), 'fault')}"
    raise BadInput(f"build {build} {what}", where=str(folder.root), hint="Start a new build.")


def _identity(said: BuildRecord | ReleaseJson) -> tuple[str, str, str]:
    return said.build, said.commit, said.release_tag


def claim(build: str, artifacts: Artifacts) -> None:
    """Keep a build for its release, which is starting: from now on it neither expires nor is cleaned up.

    To be called before the record of the ledger is written. If a release and an expiry start at once, the first
    decision counts (`BuildFolder.decide`). A claim that no record has followed in time means nothing (`is_claimed`).

    Raises:
        BadInput: It is not complete, or is being cleaned up.
    """
    completed(build, artifacts)
    artifacts.build(build).decide("released")
    completed(build, artifacts)


def check_traceable(release: ReleaseJson) -> None:
    """Refuse a build that cannot be repeated: only a commit has a history.

    Raises:
        BadInput: The build is not from a commit.
    """
    if not why_unreleasable(release.commit):
        return
    raise BadInput(
        f"build {release.build} is of a working tree {'with changes' if release.commit else 'outside of git'}",
        where=release.commit or release.source,
        hint="Commit everything that `git status` shows, and build again: what passed is reused, so it takes seconds.",
    )


def check_staging(release: ReleaseJson, staging: Registry) -> None:
    """Refuse a build whose staged tags point to something else than what was tested.

    Raises:
        BadInput: A tag has moved or is gone.
        Unreachable: Staging does not answer.
    """
    moved = []
    for image in release.images:
        served = staging.digest(Reference.parse(image.staging.reference))
        if served != image.staging.digest:
            moved.append(
                f"{image.staging.reference} serves {served or 'nothing'}, but {image.staging.digest} was tested"
            )
    if moved:
        raise BadInput(
            "\n  ".join(moved),
            where=f"build {release.build}",
            hint="The tag no longer serves the tested image: start a new build.",
        )


def check_verified(release: ReleaseJson, staging: Registry, settings: Settings) -> None:
    """Refuse a build whose images do not have the evidence that they must have, where the settings say so.

    Raises:
        BadInput: An image is not signed, is signed by somebody whose signature does not count, or lacks something.
        Unreachable: Staging does not answer.
    """
    if not settings.releases_verified:
        return
    trust, now, refused = trust_of(settings), datetime.now(UTC), []
    for image in release.images:
        staged = Reference.parse(image.staging.reference).with_digest(image.staging.digest)
        failed = verify_image(staging, staged, trust, settings.trust.required, now).failed
        refused += [f"{image.family}/{image.name}: {check.name}: {check.found}" for check in failed]
    if refused:
        raise BadInput(
            "\n  ".join(refused),
            where=f"build {release.build}",
            hint="`aml-images verify` shows what an image has. Build again with --force to attach it again.",
        )


def lacks(release: ReleaseJson, backends: Backends, settings: Settings) -> dict[str, str]:
    """What images of a build lack: tests, licence and third-party notices in the image, or their base in production.

    Returns:
        Image → what it lacks, in words. A build that this store does not know, is known by its release.json alone.

    Raises:
        Unreachable: Production does not answer.
    """
    found, artifacts = {}, backends.artifacts
    unreleased = _unreleased_bases(release, backends, settings)
    for image in release.images:
        name = f"{image.family}/{image.name}"
        untested = [each.platform for each in image.platforms if not each.tested]
        missing = [f"not tested on {', '.join(untested)}"] if image.tests and untested else []
        missing += [] if image.tests else ["not tested"]
        with suppress(BadInput):  # a record of another version says nothing
            staged = artifacts.build(release.build).read_staged(name)
            notices = staged.notices if staged else {}
            missing += [f"without {path}" for path, there in notices.items() if not there]
        missing += [f"its base {each} is not in production" for each in unreleased.get(name, ())]
        if missing:
            found[name] = ", ".join(missing)
    return found


def _unreleased_bases(release: ReleaseJson, backends: Backends, settings: Settings) -> dict[str, list[str]]:
    """Images of the repository that images of a build are FROM, and that users cannot pull after its release.

    Returns:
        Image → what production does not have of its bases, by name and digest, and the build does not release either.
    """
    plan = None
    with suppress(BadInput):  # a record of another version says nothing
        plan = backends.artifacts.build(release.build).read_plan()
    planned = plan.by_name if plan else {}
    together = {image.staging.digest for image in release.images}
    found: dict[str, list[str]] = {}
    for image in release.images:
        name = f"{image.family}/{image.name}"
        ours = {base.reference: base.image for base in planned[name].bases if base.image} if name in planned else {}
        for base in image.bases:
            if base.reference not in ours or base.digest in together:
                continue
            parent = ours[base.reference]
            repository = settings.production_names.format(
                family=parent.partition("/")[0], name=parent.partition("/")[2]
            )
            if backends.production.digest(Reference(backends.production.host, repository, digest=base.digest)) is None:
                found.setdefault(name, []).append(f"{parent} ({short_digest(base.digest)})")
    return found
