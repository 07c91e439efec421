"""Staging an image: reuse the one that passed with the same content key, or build and push it.

A plan decides which. If an image to reuse was deleted since, or its base has changed, the step decides again.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.builds.naming import (
    CONTENT_KEY_LABEL,
    LABEL_PREFIX,
    PULL_REQUEST_ARGUMENT,
    PULL_REQUEST_LABEL,
    temporary_prefix,
)
from aml_images_dagster.builds.process import is_dead
from aml_images_dagster.builds.records import BaseImage, StagedImage, StagedPlatform
from aml_images_dagster.builds.steps.bases import pin_bases
from aml_images_dagster.builds.steps.isolation import check_triggers
from aml_images_dagster.builds.steps.parents import is_in_staging, parent_finder
from aml_images_dagster.builds.steps.recipe import Recipe, recipe_of, secrets_of, why_built
from aml_images_dagster.builds.steps.reuse import is_of_no_pull_request, passed_with, reusable
from aml_images_dagster.catalog.builder_features import mirrored_frontend
from aml_images_dagster.catalog.dockerfile import in_every_stage, with_labels, without_directives
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.catalog.windows import check_host
from aml_images_dagster.engine.interface import BuildRequest, DockerfileFailed
from aml_images_dagster.errors import BadInput, BuildFailed, Unreachable
from aml_images_dagster.registry.platforms import images_of, manifests_below
from aml_images_dagster.trust.layer_records import LayerRecords

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import PassedImage, PlannedImage
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.builds.steps.bases import FindParent
    from aml_images_dagster.catalog.content_key import ContentKey
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.engine.interface import LogLine, PushedImage, RegistryLogin
    from aml_images_dagster.registry.interface import Registry

_WAIT_SECONDS = 0.5
_PUSHES = 3
_FIXED_TIME = 315_619_200
"""2 January 1980: in every time zone zip files, and so wheels, can have it."""


def stage(session: BuildSession, name: str, log: LogLine) -> StagedImage:
    """Bring an image into the staging registry under this build's tag, and write `staged.json`.

    Args:
        session: The build.
        name: `<family>/<name>`.
        log: Receives the engine's output.

    Raises:
        BadInput: A base can't be resolved, or no engine fits.
        BuildFailed: The image can't be built, or the registry does not hold what was pushed.
        Unreachable: The engine or the registry does not answer.
    """
    session.begin()
    keep_sources(session, [session.image(name)])
    planned = session.planned(name)
    record = None
    if planned and planned.action == "reuse" and is_followed(session, planned, log):
        record = staged_again(session, name, reuse_planned(session, planned, log))
    record = record or _find_out(session, name, log)
    session.folder.write_staged(record)
    return record


def is_followed(session: BuildSession, planned: PlannedImage, log: LogLine) -> bool:
    """Whether an image to reuse was built on the bases of this build."""
    for base in planned.bases:
        if base.image in session.images and _digest_in(session, base.image, log) != base.digest:
            log(f"{base.image} is no longer the planned {base.digest}")
            return False
    return True


def reuse_planned(session: BuildSession, planned: PlannedImage, log: LogLine) -> list[PassedImage]:
    """Tag an image that the plan reuses for this build; its records, best first, or none if it is gone or replaced."""
    if not passed_with(session, planned.content_key, planned.image, planned.digest):
        log(f"{planned.digest} of {planned.image} was cleaned up or replaced after the build was planned")
        return []
    return _reuse(session, planned.image, planned.content_key, planned.digest, log)


def _find_out(session: BuildSession, name: str, log: LogLine) -> StagedImage:
    image, planned = session.image(name), session.planned(name)
    pinned = {base.reference: base for base in planned.bases if not base.image} if planned else {}
    find_parent = _keeping(session, parent_finder(session, lambda parent: _digest_in(session, parent, log)))
    bases = pin_bases(image, session.source.catalog, session.backends, find_parent, pinned)
    recipe = recipe_of(image, session.source, bases)
    for base in recipe.bases:
        log(f"base {base.reference} is {base.digest}")
        if base.warning:
            log(f"warning: {base.warning}")
    found = [] if session.force else _reusable(session, recipe.key, image)
    passed = _reuse(session, name, recipe.key.digest, found[0].staged.digest, log) if found else []
    return staged_again(session, name, passed) or _build_and_push(session, recipe, log)


def _digest_in(session: BuildSession, name: str, log: LogLine) -> str | None:
    """The digest of an image of this build; a reused image without a step is staged here."""
    staged = session.folder.read_staged(name)
    planned = session.planned(name)
    if staged is None and planned and planned.action == "reuse":
        staged = stage_once(session, name, log)
    return staged.digest if staged else None


def _keeping(session: BuildSession, find: FindParent) -> FindParent:
    """Finds parents as `find` does; one that staging holds for another build gets a tag of this one as well.

    Otherwise the cleanup of that build would take it away from under this one.
    """

    def keep(parent: str, release: str = "") -> Reference | None:
        found = find(parent, release)
        image = session.image(parent)
        if found is None or release or parent in session.images or not is_in_staging(found, image, session.backends):
            return found
        tag = session.staging_reference(image)
        session.folder.write_parent(parent, BaseImage(reference=str(tag), digest=found.digest))
        # As when an image is reused: tag it first, and then check whether it may still be used (reuse.py).
        if (
            not _tag(session.backends.staging, found, tag.tag)
            or parent_finder(session, lambda _: None)(parent) != found
        ):
            raise BadInput(
                f"{parent} was just cleaned up, together with the build that made it",
                where=str(found),
                hint=f"Select {parent} as well, and build again.",
            )
        return found

    return keep


def _reusable(session: BuildSession, key: ContentKey, image: Image) -> list[PassedImage]:
    return reusable(key, image, session.backends, for_pull_request=bool(session.pull_request))


def stage_once(session: BuildSession, name: str, log: LogLine) -> StagedImage:
    """Stage an image that the plan reuses and that several steps may need at once; one of them does it.

    Raises:
        BuildFailed: The step that does it was killed.
        BuildStopped: The step that does it has failed.
    """
    try:
        session.folder.claim(name)
    except FileExistsError:
        return _await_staged(session, name)
    return session.folder.read_staged(name) or stage(session, name, log)


def _await_staged(session: BuildSession, name: str) -> StagedImage:
    while True:
        is_killed = is_dead(session.folder.claimed_by(name))  # asked first: what it has written counts
        staged = session.folder.read_staged(name)
        if staged is not None:
            return staged
        session.begin()
        if is_killed:
            raise BuildFailed("the step that staged this image was killed", where=name, hint="Build again.")
        time.sleep(_WAIT_SECONDS)


def _reuse(session: BuildSession, image: str, content_key: str, digest: str, log: LogLine) -> list[PassedImage]:
    """Tag an image of another build for this one; its records, best first, or none if it went meanwhile."""
    reference = session.staging_reference(session.image(image))
    log(f"content key {content_key} has passed: using {digest}")
    is_tagged = _tag(session.backends.staging, reference.with_digest(digest), reference.tag)
    if is_tagged:
        session.saw_tag(image, digest)
    # A cleanup that has looked for tags before ours was there has made sure that the image is not reusable (reuse.py).
    passed = passed_with(session, content_key, image, digest) if is_tagged else []
    if not passed:
        log(f"{digest} was just cleaned up, or replaced: deciding again")
    return passed


def staged_again(session: BuildSession, image: str, passed: list[PassedImage]) -> StagedImage | None:
    """The `staged.json` of an image that has this build's tag, by its records of other builds; None without any."""
    if not passed:
        return None
    staged = passed[0].staged
    return staged.model_copy(
        update={
            "reference": str(session.staging_reference(session.image(image))),
            "seconds": 0.0,
            "reasons": session.why(image),
            "because": (f"passed in build {staged.built_in}",),
        }
    )


def _tag(staging: Registry, image: Reference, tag: str) -> bool:
    """Tag an image of another build; return whether it still exists, because that build may be cleaned up."""
    try:
        staging.tag(image, tag)
    except BadInput:  # the image is gone already
        return False
    except Unreachable:
        if staging.digest(image) is not None:
            raise
        return False  # its cleanup has just removed it, or images that it refers to
    return True


def _why_built(session: BuildSession, recipe: Recipe) -> tuple[str, ...]:
    """The reasons of the plan, unless the plan reuses the image."""
    planned = session.planned(recipe.image.id)
    return planned.because if planned and planned.action == "build" else why_built(session, recipe)


def _build_and_push(session: BuildSession, recipe: Recipe, log: LogLine) -> StagedImage:
    image, backends, settings = recipe.image, session.backends, session.settings
    if image.os == "windows" and (version := backends.builder_for(image.os).info().os_version) is not None:
        check_host(image, version)
    if session.pull_request:
        check_triggers(image, recipe.bases, backends)
    reference = session.staging_reference(image)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=temporary_prefix(session.number)) as folder:
        context = Path(folder) / "context.tar"
        text = without_directives(recipe.dockerfile)
        if session.pull_request:
            text = _kept_apart(text)
        # As `git archive` does. With `rewrite_timestamp` it may not matter from which commit the cache has a file.
        mtime = _FIXED_TIME if image.settings.rewrite_timestamp else int(_created(session).timestamp())
        dockerfile = recipe.context.write_tar(context, with_labels(text, labels(session, recipe)), mtime)
        request = BuildRequest(
            context=context,
            dockerfile=dockerfile,
            tag=str(reference),
            platform=",".join(image.platforms),
            timeout_seconds=settings.build_timeout_minutes * 60,
            build_args=image.settings.build_args,
            network=session.build_network,
            no_cache=session.force,
            logins=_logins(recipe, backends),
            look_for=notice_paths(image.os),
            cache_name=f"aml-images.cache/{_cache_of(session, image)}",
            cache_reference=f"{settings.build_cache}/{_cache_of(session, image)}" if settings.build_cache else "",
            cache_group="pull-requests" if session.pull_request else "",
            secrets={} if session.pull_request else secrets_of(image, settings),
            ssh=image.settings.ssh and not session.pull_request,
            frontend=_frontend(recipe, backends),
            epoch=session.source.committed,
            rewrite_timestamp=image.settings.rewrite_timestamp,
        )
        try:
            pushed, served = _push(session, recipe, request, log)
        except DockerfileFailed as failure:
            where = _place(image, text, failure.line)
            raise BuildFailed(failure.what, where=where, hint=failure.hint, log=failure.log) from None
    by_digest = reference.with_digest(served)
    platforms = _platforms(session, image, by_digest, pushed)
    os, architecture = platforms[0].platform.split("/")[:2]
    return StagedImage(
        image=image.id,
        reference=str(reference),
        digest=served,
        os=os,
        architecture=architecture,
        size_bytes=platforms[0].size_bytes,
        layers=platforms[0].layers,
        seconds=round(time.monotonic() - started, 3),
        reasons=session.why(image.id),
        because=_why_built(session, recipe),
        content_key=recipe.key,
        bases=tuple(BaseImage(reference=base.reference, digest=base.digest) for base in recipe.bases),
        built_in=session.number,
        dockerfile=text,
        notices={path: all(each.notices[path] for each in platforms) for path in notice_paths(image.os)},
        platforms=platforms if len(image.platforms) > 1 else (),
    )


def _place(image: Image, built: str, line: int | None) -> str:
    """A line of the Dockerfile that was built, as the repository has it: with the path only, where lines were added."""
    if line is None or built.count("\n") != image.dockerfile.text.count("\n") or line > built.count("\n") + 1:
        return image.dockerfile_path
    path, line_there = image.place(line)
    return f"{path}:{line_there}"


def _push(session: BuildSession, recipe: Recipe, request: BuildRequest, log: LogLine) -> tuple[PushedImage, str]:
    """Build an image and push it; the digest that the registry serves.

    Another build of the same commit may make the same image. If it is cleaned up at the same moment, it may not have
    seen our tag when it deleted the image, which is then pushed again.

    Raises:
        BuildFailed: The image can't be built, or the registry does not serve it.
        Unreachable: The builder or the registry does not answer.
    """
    image, staging = recipe.image, session.backends.staging
    reference = Reference.parse(request.tag)
    for _ in range(_PUSHES):
        pushed = session.backends.builder_for(image.os).build_and_push(
            request,
            log,
            # Another step may have failed meanwhile: what is pushed then would come after the cleanup.
            still_wanted=session.begin,
            started=lambda work: session.folder.write_remote_work(image.id, work),
            pushes=lambda digest: session.folder.write_untagged(image.id, digest),
        )
        if _is_complete(session, reference, pushed):
            break
        log(f"{pushed.digest or reference} was deleted, by the cleanup of another build: pushing it again")
        request = replace(request, no_cache=False)
    served = staging.digest(reference)
    if served is None or (pushed.digest and pushed.digest != served):
        raise BuildFailed(
            f"the registry serves {served or 'nothing'} where {pushed.digest or 'an image'} was pushed",
            where=str(reference),
            hint="Another client writes to this tag, or the registry lost the push: build again.",
        )
    return pushed, served


def _is_complete(session: BuildSession, reference: Reference, pushed: PushedImage) -> bool:
    """Whether staging still has all of a pushed image, once nobody deletes any of it any more."""
    staging = session.backends.staging
    digest = pushed.digest or staging.digest(reference)
    if digest is None:
        return False
    return _is_whole(session, reference.with_digest(digest)) and staging.digest(reference) is not None


def _is_whole(session: BuildSession, image: Reference) -> bool:
    """Whether staging has an image, by digest, with all its parts, once nobody deletes any of it any more."""
    parts = [image.with_digest(part) for part in manifests_below(session.backends.staging, image)]
    return session.keeps([image, *parts])


def _platforms(session: BuildSession, image: Image, pushed: Reference, told: PushedImage) -> tuple[StagedPlatform, ...]:
    """The images that a builder has pushed, in the order of the platforms of image.json.

    Raises:
        BuildFailed: They are for other platforms.
    """
    found = images_of(session.backends.staging, pushed)
    _check_platforms(image, found, pushed)
    return tuple(_staged_platform(session, image, platform, found[platform], told) for platform in image.platforms)


def _staged_platform(
    session: BuildSession, image: Image, platform: str, reference: Reference, told: PushedImage
) -> StagedPlatform:
    staging, records = session.backends.staging, LayerRecords(session.settings.layer_records)
    manifest = staging.manifest(reference)
    return StagedPlatform(
        platform=platform,
        digest=reference.digest,
        size_bytes=staging.size_bytes(reference),
        layers=len(json.loads(manifest.body).get("layers", ())) if manifest else 0,
        notices=dict(told.files or records.files_in(staging, reference, notice_paths(image.os))),
    )


def _check_platforms(image: Image, built: Collection[str], reference: Reference) -> None:
    """Refuse an image for other platforms: builders take the base that they are given, whatever it is for."""
    if set(built) != set(image.platforms):
        raise BuildFailed(
            f"the image was built for {' and '.join(built)}, not for {' and '.join(image.platforms)}: "
            "the base has no such variant",
            where=str(reference),
            hint="Build it from a base for that platform, or change the platform.",
        )


def _frontend(recipe: Recipe, backends: Backends) -> str:
    """The image that reads the Dockerfile, by digest; empty for the builder's own."""
    named = mirrored_frontend(recipe.image.dockerfile.syntax, backends.frontends)
    return next((base.pull for base in recipe.bases if base.reference == named), "") if named else ""


def _cache_of(session: BuildSession, image: Image) -> str:
    return f"{'pull-requests/' if session.pull_request else ''}{image.family}:{image.name}"


def _kept_apart(dockerfile: str) -> str:
    """A Dockerfile whose layers no other build finds in the cache of a builder.

    A builder reuses a layer for the same instruction on the same layers, whatever `RUN` fetched then. The classic
    builder looks among the children of a layer, so those of a pull request get another parent: a label behind each
    FROM. BuildKit compares the environment of RUN, and an argument is part of it.
    """
    marks = (f'LABEL {PULL_REQUEST_LABEL}="yes"', f"ARG {PULL_REQUEST_ARGUMENT}=yes")
    return in_every_stage(dockerfile, marks)


def _logins(recipe: Recipe, backends: Backends) -> dict[str, RegistryLogin]:
    """What the engine needs to pull the bases."""
    hosts = {Reference.parse(base.pull).registry for base in recipe.bases}
    return {host: login for host in hosts if (login := backends.login_for(host))}


def notice_paths(os: str) -> tuple[str, ...]:
    """Where the private part of every Dockerfile puts the licence and the third-party notices."""
    root = "C:\\" if os == "windows" else "/"
    return (f"{root}LICENSE.txt", f"{root}ThirdPartyNotices.txt")


def labels(session: BuildSession, recipe: Recipe) -> dict[str, str]:
    """Labels of an image: the same for every build of a commit, so that its digest can be the same, too.

    The title keeps digests of images apart: what deletes one looks for other tags of the same image only.

    Source: https://github.com/opencontainers/image-spec/blob/main/annotations.md
    """
    image = recipe.image
    first = recipe.bases[0] if recipe.bases else None
    standard = {
        "org.opencontainers.image.created": _created(session).isoformat(),
        "org.opencontainers.image.title": image.id,
        "org.opencontainers.image.description": image.settings.description,
        "org.opencontainers.image.source": session.source.url,
        "org.opencontainers.image.revision": session.source.commit,
        "org.opencontainers.image.base.name": first.reference if first else "",
        "org.opencontainers.image.base.digest": first.digest if first else "",
    }
    own = {
        CONTENT_KEY_LABEL: recipe.key.digest,
        f"{LABEL_PREFIX}bases": json.dumps({base.reference: base.digest for base in recipe.bases}),
    }
    return {key: value for key, value in standard.items() if value} | own


def _created(session: BuildSession) -> datetime:
    committed = session.source.committed
    return session.created if committed is None else datetime.fromtimestamp(committed, UTC)


def keep_sources(session: BuildSession, images: Iterable[Image]) -> None:
    """Keep image folders as they are built, at their own paths, in the build's sources."""
    tree = session.source.tree
    folders = tuple(image.file("") for image in images)
    paths = [path for path in tree.files() if path.startswith(folders)]
    session.folder.keep_sources(tree.read_many(paths))


def reuse_staged(session: BuildSession, name: str, build: str) -> StagedImage:
    """Use the image that an earlier build staged, under this build's tag, without staging it.

    Raises:
        BadInput: That build did not stage the image, or is for a pull request; or staging no longer has the image.
    """
    session.begin()
    artifacts = session.backends.artifacts
    if build and not session.pull_request and not is_of_no_pull_request(build, artifacts):
        raise BadInput(
            f"{name} was last staged by a build of a pull request",
            where=build,
            hint="Materialize its staged asset in the same run.",
        )
    earlier = artifacts.build(build).read_staged(name) if build else None
    staging, reference = session.backends.staging, session.staging_reference(session.image(name))
    # It need not have passed, so no record says that a cleanup may have looked for tags before ours was there.
    if (
        earlier is None
        or not _tag(staging, reference.with_digest(earlier.digest), reference.tag)
        or not _is_whole(session, reference.with_digest(earlier.digest))
    ):
        raise BadInput(f"{name} is not in staging", where=name, hint="Materialize its staged asset in the same run.")
    update = {
        "reference": str(reference),
        "seconds": 0.0,
        "reasons": session.why(name),
        "because": (f"staged by build {build}",),
    }
    record = earlier.model_copy(update=update)
    session.folder.write_staged(record)
    return record


def staged_by_digest(session: BuildSession, staged: StagedImage) -> Reference:
    """The reference by which everything after staging uses an image."""
    image = session.image(staged.image)
    return Reference(session.backends.staging.host, image.family, digest=staged.digest)
