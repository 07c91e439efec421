"""The records of a build. Every record is a JSON file in the build's artifacts folder."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.content_key import ContentKey
from aml_images_dagster.catalog.image_name import plain_name
from aml_images_dagster.catalog.notices import Component
from aml_images_dagster.testing.interface import JobStatus
from aml_images_dagster.text import size_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

BuildStatus = Literal["running", "partial", "succeeded", "failed", "canceled", "expired", "removed"]
"""`partial` was started for a part of the chain only and can never be released; `expired` succeeded, was not released
in time, and has left staging; `removed` succeeded, and a person has removed what it had."""


EndStatus = Literal["failed", "canceled", "expired", "removed"]
"""Of a build with one of these nothing is to be left."""

FinalStatus = EndStatus | Literal["released"]
"""The final result of a build; see `BuildOutcome`."""


class Record(BaseModel):
    """A record is written once and read many times.

    Unknown keys are errors: a key of a newer version may be the reason not to delete or release a build.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


def is_newer(error: ValidationError) -> bool:
    """Whether a newer version has written a record: it has fields and words that this one lacks, and nothing else."""
    return all(fault["type"] in ("extra_forbidden", "literal_error") for fault in error.errors())


def written_by_newer(error: ValidationError) -> str:
    """What to say of a record that a newer version has written: the fields that this version does not understand."""
    fields = dict.fromkeys(".".join(map(str, fault["loc"])) for fault in error.errors())
    return f"a newer version has written it, and this one does not understand: {', '.join(fields)}"


class Account(Record):
    """A record that is only shown; unknown keys of a newer version are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


ENDED: frozenset[BuildStatus] = frozenset(get_args(EndStatus))


class BuildFailure(Record):
    """Why a build failed.

    Attributes:
        step: The step that failed first; empty when it was none.
        message: What, where and how to fix it.
        log: The end of the log that shows it; may be empty.
    """

    step: str
    message: str
    log: str = Field(default="", repr=False)

    def is_of(self, image: str, stages: Sequence[str] = ("staged", "tested")) -> bool:
        """Whether the step is one of these stages of an image, whatever is between the words of its name."""
        step, name = re.sub(r"[^a-z0-9]+", "_", self.step.lower()), plain_name(*image.split("/", 1))
        return step in [f"{name}_{stage}" for stage in stages]


class BuildRecord(Record):
    """`build.json`: what the build is.

    Attributes:
        build: Its number.
        run_id: The Dagster run.
        status: How far it came.
        commit: The commit that was built; with `-dirty` when the working tree had changes beyond it.
        source: URL or path of the repository.
        created: When it was started, UTC.
        release_tag: The tag under which it is to be released.
        images: The images that it was started for, `<family>/<name>`.
        keep_until: Until when a failure is kept for inspection, UTC; None cleans it up at once.
        failure: Why it failed; None unless it did.
        trigger: What started it, e.g. `command line`; empty when a build of an earlier version has not said so.
        pull_request: Number of the pull request that it is for, which is never released; empty for any other build.
    """

    build: str
    run_id: str
    status: BuildStatus
    commit: str
    source: str
    created: AwareDatetime
    release_tag: str
    images: tuple[str, ...]
    keep_until: AwareDatetime | None = None
    failure: BuildFailure | None = None
    trigger: str = ""
    pull_request: str = ""

    @property
    def started_by(self) -> str:
        """What started it, for people; empty when that is not known."""
        return f"pull request {self.pull_request}" if self.pull_request else self.trigger


class BuildOutcome(Record):
    """`outcome.json`: the final result of a build. The first process that creates it decides.

    It is changed only when a person forces a cleanup, and when a release has died that had claimed the build.

    Attributes:
        build: Its number.
        status: That of the build from now on; or `released`: it is released or being released, so that
            it has to stay as it is.
        failure: Why it failed; None unless it did, and that was known.
    """

    build: str
    status: FinalStatus
    failure: BuildFailure | None = None


class BaseImage(Record):
    """A base of an image.

    Attributes:
        reference: As the Dockerfile names it.
        digest: What it pointed to in this build.
    """

    reference: str
    digest: str


class PinnedBase(Record):
    """A base with the digest that it points to.

    Attributes:
        reference: As the Dockerfile names it.
        digest: What it points to; empty while the build has yet to make it.
        pull: The pinned reference that takes its place in the Dockerfile that is built.
        image: For an image of our own `<family>/<name>`; else empty.
        warning: A warning about it; else empty.
    """

    reference: str
    digest: str
    pull: str
    image: str = ""
    warning: str = ""


class PlannedScenario(Record):
    """What a build does with one scenario.

    Attributes:
        name: Its name.
        status: It runs, has passed with this image before, or is left out because no test machine is of the platform.
        key: See `ScenarioRecord`; empty while the image has yet to be built.
        tested_in: The build in which it has passed; else empty.
        platform: See `ScenarioRecord`.
    """

    name: str
    status: Literal["run", "passed", "untested"] = "run"
    key: str = ""
    tested_in: str = ""
    platform: str = ""


class PlannedImage(Record):
    """What a build does with one image.

    Attributes:
        image: `<family>/<name>`.
        action: Build it, reuse what passed before, or refuse because it cannot be built.
        because: Why it must be built, which build it is taken from, or what stands in the way.
        reasons: Why the image is part of the build.
        bases: What it is built on.
        scenarios: What is done with each scenario.
        content_key: See `ContentKey.digest`; empty while one of its bases has yet to be built.
        digest: What is reused; empty for an image that is built.
        built_in: The build that has built what is reused; else empty.
    """

    image: str
    action: Literal["build", "reuse", "refuse"]
    because: tuple[str, ...]
    reasons: tuple[str, ...]
    bases: tuple[PinnedBase, ...]
    scenarios: tuple[PlannedScenario, ...]
    content_key: str = ""
    digest: str = ""
    built_in: str = ""

    @property
    def pins(self) -> dict[str, str]:
        """What it is built on: each reference and its digest."""
        return {base.reference: base.digest for base in self.bases}

    @property
    def tests(self) -> dict[str, str]:
        """Each scenario, with its platform if there are several, and whether it runs, has passed or is left out."""
        return {on_platform(each.name, each.platform): each.status for each in self.scenarios}

    @property
    def runs_scenarios(self) -> bool:
        """Whether any of its scenarios runs."""
        return any(scenario.status == "run" for scenario in self.scenarios)

    @property
    def is_unchanged(self) -> bool:
        """Whether there is nothing to build and nothing to test."""
        return self.action == "reuse" and not self.runs_scenarios


class Plan(Record):
    """`plan.json`: what a build does, decided before it starts.

    Attributes:
        commit: The commit that it is made from; with `-dirty` when the working tree had changes beyond it.
        images: What is done with each image, parents first.
    """

    commit: str
    images: tuple[PlannedImage, ...]

    @cached_property
    def by_name(self) -> dict[str, PlannedImage]:
        """The images by `<family>/<name>`."""
        return {planned.image: planned for planned in self.images}

    @property
    def reused_digests(self) -> dict[str, str]:
        """The digest of each image that is reused, by `<family>/<name>`."""
        return {planned.image: planned.digest for planned in self.images if planned.digest}


def on_platform(name: str, platform: str) -> str:
    """How people read the name of something that exists for each platform; the platform is empty where it goes without.

    E.g. `trains (linux/arm64)`.
    """
    return f"{name} ({platform})" if platform else name


class StagedPlatform(Record):
    """An image for one platform, which is part of a staged image.

    Attributes:
        platform: E.g. `linux/arm64`.
        digest: Of its own manifest; an index refers to it.
        size_bytes: See `StagedImage`.
        layers: See `StagedImage`.
        notices: See `StagedImage`.
    """

    platform: str
    digest: str
    size_bytes: int
    layers: int
    notices: dict[str, bool]


class StagedImage(Record):
    """`staged.json`: an image in the staging registry.

    Of an image for several platforms, size and layers are those of the first.

    Attributes:
        image: `<family>/<name>`.
        reference: The staging tag.
        digest: What was pushed: an image, or the index of several.
        os: Operating system.
        architecture: As in OCI.
        size_bytes: Compressed size: what a client pulls.
        layers: Number of layers.
        seconds: How long building and pushing took; 0 when reused.
        reasons: Why the image is part of the build.
        because: Why it was built, or which build it is reused from; empty in records of earlier versions.
        content_key: The digest of all inputs of its build.
        bases: What it is built on.
        built_in: The build that built it: this one, or an earlier one whose image was reused.
        dockerfile: The Dockerfile that was built, with every base pinned.
        notices: Which licence files the image holds, on all platforms; path to presence.
        platforms: The images of an index, in the order of image.json; empty for an image of one platform.
    """

    image: str
    reference: str
    digest: str
    os: str
    architecture: str
    size_bytes: int
    layers: int
    seconds: float
    reasons: tuple[str, ...]
    because: tuple[str, ...] = ()
    content_key: ContentKey
    bases: tuple[BaseImage, ...]
    built_in: str
    dockerfile: str
    notices: dict[str, bool]
    platforms: tuple[StagedPlatform, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Compressed size in bytes by platform."""
        by_platform = {each.platform: each.size_bytes for each in self.platforms}
        return by_platform or {f"{self.os}/{self.architecture}": self.size_bytes}

    def on(self, platform: str) -> str:
        """Digest of the image for a platform; that of the whole image if it is for no other."""
        return next((each.digest for each in self.platforms if each.platform == platform), self.digest)

    def reused(self, build: str) -> bool:
        """Whether `build` reused the image instead of building it."""
        return self.built_in != build


def sizes_in_words(staged: StagedImage) -> str:
    """Compressed size for people, with the platforms if there are several, e.g. `2.1 MB (linux/amd64)`."""
    several = len(staged.sizes) > 1
    return ", ".join(
        on_platform(size_in_words(size), platform if several else "") for platform, size in staged.sizes.items()
    )


def signer_in_words(signed_by: str, *, is_test_key: bool) -> str:
    """Who has signed, for people. The name of a machine's own test key says already that it proves nothing."""
    is_unsaid = is_test_key and "proves nothing" not in signed_by
    return f"{signed_by}, a test key that proves nothing" if is_unsaid else signed_by


class ScenarioRecord(Record):
    """The result of one scenario.

    Attributes:
        scenario: Its name.
        key: sha256 of all inputs of the result: image digest, scenario, test code, place.
        job: Name of the job that ran it.
        status: How the job ended.
        seconds: Wall time of the job in seconds.
        reason: Why it did not pass; empty when it did.
        url: Page of the job; empty for local jobs.
        sdk: Name and version of what submitted the job; empty for local jobs.
        warning: A warning that does not change the status of the job; else empty.
        tested_in: The build that ran it.
        platform: Where it ran, of an image for several platforms; else empty.
    """

    scenario: str
    key: str
    job: str
    status: JobStatus
    seconds: float
    reason: str
    url: str
    sdk: str = ""
    warning: str = ""
    tested_in: str
    platform: str = ""


class TestedImage(Record):
    """`tested.json`: the scenarios of an image that passed. An image without scenarios has none.

    Attributes:
        image: `<family>/<name>`.
        digest: What was tested.
        scenarios: Those that passed.
        untested: Platforms for which there is no test machine: its scenarios did not run there.
    """

    __test__ = False

    image: str
    digest: str
    scenarios: tuple[ScenarioRecord, ...]
    untested: tuple[str, ...] = ()


class AttachedArtifact(Record):
    """An artifact that is attached to an image.

    Attributes:
        kind: Its artifact type.
        digest: Of its manifest.
        subject: Digest of what it is attached to: the image, an image of an index, or another artifact.
        name: What it is, in a word or two: SPDX, CycloneDX, provenance, test results, signature; empty in records of
            earlier versions.
        content: Digest of its content, a blob of the same repository; likewise.
    """

    kind: str
    digest: str
    subject: str
    name: str = ""
    content: str = ""


class EvidenceRecord(Record):
    """`evidence.json`: what is attached to an image that has passed, and what it says.

    Attributes:
        image: `<family>/<name>`.
        digest: What it is attached to.
        artifacts: Everything that is attached, each before what is attached to it.
        signed_by: Subject of the certificate of the key that signed.
        is_test_key: Whether that is a test key, which proves nothing.
        packages: How many packages the image has; of the first platform if there are several.
        without_licence: How many of these have no licence that was found.
        licences: The licences that most packages have, as SPDX expressions, each with the number of its packages.
        unread: What of the image could not be read, and why.
        attached_in: The build that attached it: this one, or that from which the image is reused.
    """

    image: str
    digest: str
    artifacts: tuple[AttachedArtifact, ...]
    signed_by: str
    is_test_key: bool
    packages: int
    without_licence: int
    licences: dict[str, int] = {}
    unread: tuple[str, ...] = ()
    attached_in: str


class InstalledComponents(Record):
    """`components.json`: what an image has whose folder keeps a lock of its notices.

    Attributes:
        image: `<family>/<name>`.
        digest: The image.
        components: What it has.
        drift: What of that the lock does not say, a sentence for each.
    """

    image: str
    digest: str
    components: tuple[Component, ...]
    drift: tuple[str, ...] = ()


class PassedImage(Record):
    """What may be used again: an image, its scenarios that passed, and what is attached to it."""

    staged: StagedImage
    tested: TestedImage
    evidence: EvidenceRecord | None = None


class JobRecord(Account):
    """A remote job, recorded before it is submitted.

    Attributes:
        job: Its name.
        build: The build.
        image: `<family>/<name>`.
        scenario: What it runs.
        attempt: Counted from 1.
        place: Kind of the test runner.
        reference: The image by digest.
        status: `submitting` until the job ended.
        submitted: When it was recorded, UTC.
        finished: When it ended, UTC.
        url: Page of the job.
        platform: See `ScenarioRecord`.
    """

    job: str
    build: str
    image: str
    scenario: str
    attempt: int
    place: str
    reference: str
    status: JobStatus | Literal["submitting"]
    submitted: AwareDatetime
    finished: AwareDatetime | None = None
    url: str = ""
    platform: str = ""


class RunInformation(Account):
    """`run_information.json`: every remote job of the build."""

    build: str
    jobs: tuple[JobRecord, ...]


def why_unreleasable(commit: str) -> str:
    """Why no build of a commit can be released, as `Plan.commit` and `BuildRecord.commit` name it; empty if it can."""
    if not commit:
        return "The image folders are in no commit of git: this build cannot be released."
    if commit.endswith(git.DIRTY):
        return (
            "The working tree has changes that are not committed, or files that git does not know: "
            "this build cannot be released."
        )
    return ""
