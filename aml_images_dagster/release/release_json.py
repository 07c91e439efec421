"""`release.json`: what a build made, from what, and how it was tested. Version 1 of the format."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.builds.records import AttachedArtifact, BaseImage, Record
from aml_images_dagster.builds.steps.evidence import is_attached_by
from aml_images_dagster.errors import BuildFailed
from aml_images_dagster.testing.interface import JobStatus  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aml_images_dagster.builds.session import BuildSession


class StagedReference(Record):
    """Where an image lies in staging.

    Attributes:
        reference: The staging tag.
        digest: What was tested, and what is to be imported.
    """

    reference: str
    digest: str


class TestEntry(Record):
    """One scenario that passed.

    Attributes:
        scenario: Its name in tests.json.
        job: The job that ran it.
        status: Always `passed` in a complete build.
        seconds: Wall time of the job in seconds.
        platform: Where it ran, of an image for several platforms; else empty.
    """

    __test__ = False

    scenario: str
    job: str
    status: JobStatus
    seconds: float
    platform: str = ""


class ReleasePlatform(Record):
    """An image for one of several platforms.

    Attributes:
        platform: E.g. `linux/arm64`.
        digest: Of its own manifest, to which the index refers.
        size_bytes: Compressed size.
        tested: Whether its scenarios have passed; else there was no test machine for it, or there are none.
    """

    platform: str
    digest: str
    size_bytes: int
    tested: bool


class ReleaseImage(Record):
    """One image of a release.

    Attributes:
        name: Image name.
        family: Family.
        os: Operating system.
        reasons: Why it is part of the build.
        because: Why it was built, or which build it is reused from; empty in builds of earlier versions.
        staging: Where it lies.
        destinations: Its names in the production registry; `latest` is the last.
        content_key: sha256 of all inputs of its build.
        bases: What it is built on.
        tests: The scenarios that passed; empty for an image without tests.json.
        size_bytes: Compressed size; of an image for several platforms that of the first.
        platforms: The images of an index; empty for an image of one platform, and in builds of earlier versions.
        evidence: What is attached to it in staging; empty where nothing is, and in builds of earlier versions.
    """

    name: str
    family: str
    os: str
    reasons: tuple[str, ...]
    because: tuple[str, ...] = ()
    staging: StagedReference
    destinations: tuple[str, ...]
    content_key: str
    bases: tuple[BaseImage, ...]
    tests: tuple[TestEntry, ...]
    size_bytes: int
    platforms: tuple[ReleasePlatform, ...] = ()
    evidence: tuple[AttachedArtifact, ...] = ()


class ReleaseJson(Record):
    """The whole of a release.json."""

    version: Literal[1] = 1
    build: str
    commit: str
    source: str
    created: datetime
    release_tag: str
    images: tuple[ReleaseImage, ...]


def release_image(session: BuildSession, name: str) -> ReleaseImage:
    """The entry of an image.

    Raises:
        BuildFailed: The image was not staged and tested by this build, or staging serves something else now.
    """
    image = session.image(name)
    staged = session.folder.read_staged(name)
    tested = session.folder.read_tested(name)
    if staged is None or tested is None:
        step = "staged" if staged is None else "tested"
        raise BuildFailed(
            f"{name} was not {step} by build {session.number}",
            where=name,
            hint="Select the whole chain of the image; what failed is cleaned up, so start a new build.",
        )
    served: str | None = staged.digest
    if not session.has_just_seen_tag(name, staged.digest):
        served = session.backends.staging.digest(session.staging_reference(image))
    if tested.digest != staged.digest or served != staged.digest:
        raise BuildFailed(
            f"staged {staged.digest}, tested {tested.digest}, but the tag serves {served or 'nothing'}",
            where=staged.reference,
            hint="The tag moved after the test. Nothing of this build may be released; build again.",
        )
    evidence = session.folder.read_evidence(name)
    if is_attached_by(session) and (evidence is None or evidence.digest != staged.digest):
        raise BuildFailed(
            f"nothing is attached to {staged.digest}",
            where=staged.reference,
            hint="Select the tested asset of the image as well; what failed is cleaned up, so start a new build.",
        )
    repository = session.settings.production_names.format(name=image.name, family=image.family)
    return ReleaseImage(
        name=image.name,
        family=image.family,
        os=image.os,
        reasons=staged.reasons,
        because=staged.because,
        staging=StagedReference(reference=staged.reference, digest=staged.digest),
        destinations=(f"{repository}:{session.release_tag}", f"{repository}:latest"),
        content_key=staged.content_key.digest,
        bases=staged.bases,
        tests=tuple(
            TestEntry(scenario=r.scenario, job=r.job, status=r.status, seconds=r.seconds, platform=r.platform)
            for r in tested.scenarios
        ),
        size_bytes=staged.size_bytes,
        platforms=tuple(
            ReleasePlatform(
                platform=each.platform,
                digest=each.digest,
                size_bytes=each.size_bytes,
                tested=bool(tested.scenarios) and each.platform not in tested.untested,
            )
            for each in staged.platforms
        ),
        evidence=evidence.artifacts if evidence else (),
    )


def release_json(session: BuildSession, images: Iterable[ReleaseImage]) -> ReleaseJson:
    """Put the entries of all images together, sorted by family and name."""
    return ReleaseJson(
        build=session.number,
        commit=session.source.commit,
        source=session.source.url,
        created=session.created,
        release_tag=session.release_tag,
        images=tuple(sorted(images, key=lambda image: (image.family, image.name))),
    )
