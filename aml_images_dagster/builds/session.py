"""A build in progress: what it is for, where its files come from, and the backends that it works with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from aml_images_dagster.builds.naming import staging_reference
from aml_images_dagster.builds.records import ENDED, BuildRecord
from aml_images_dagster.errors import BuildStopped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import Plan, PlannedImage
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.catalog.tree import Tree
    from aml_images_dagster.settings import Settings

_DELETION_SECONDS = 60.0
"""How long a deletion may take; one that takes longer was begun by a process that has ended on another machine."""
_WAIT_SECONDS = 0.5
_SEEN_SECONDS = 60.0


@dataclass(frozen=True)
class Source:
    """Where the image folders come from.

    Attributes:
        tree: The files.
        catalog: The images in them.
        commit: The commit, with `-dirty` when the files differ from it; empty outside of git.
        url: URL or path of the repository.
        committed: Unix time of the commit; None outside of git.
    """

    tree: Tree
    catalog: Catalog
    commit: str
    url: str
    committed: int | None = None


@dataclass(frozen=True)
class BuildSession:
    """A build in progress.

    Attributes:
        number: The build's number.
        run_id: The Dagster run.
        created: When it was started.
        release_tag: The tag under which it is to be released.
        images: What it builds, `<family>/<name>`.
        reasons: Why, by image; an image without reasons was picked by a person.
        force: Build and test again even if the image has passed already.
        keep_until: Until when a failure is kept for inspection; None cleans it up at once.
        trigger: What started it.
        pull_request: Number of the pull request that it is for; empty for any other build.
        left_out: Images that the run was started for and that the build leaves out, each with the reason in a sentence.
        is_checked: Whether the preflight checks ran before it was started.
        releasable: Whether the run goes through to release.json; a part of the chain is never released.
        source: Where the image folders come from.
        settings: All settings.
        backends: The engine, registries, test runner and artifacts store.
        plan: The plan of the build; None if its steps decide themselves.
    """

    number: str
    run_id: str
    created: datetime
    release_tag: str
    images: frozenset[str]
    source: Source
    settings: Settings
    backends: Backends
    reasons: Mapping[str, Sequence[str]] = field(default_factory=dict)
    force: bool = False
    releasable: bool = True
    trigger: str = ""
    pull_request: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    is_checked: bool = False
    keep_until: datetime | None = None
    plan: Plan | None = None
    _tags_seen: dict[str, tuple[str, float]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def build_network(self) -> str | None:
        """Network of RUN instructions. Builds of strangers do not get the network that other builds may need."""
        return self.settings.pull_requests.build_network or None if self.pull_request else self.settings.build_network

    @cached_property
    def folder(self) -> BuildFolder:
        """The build's artifacts."""
        return self.backends.artifacts.build(self.number)

    def image(self, image: str) -> Image:
        """An image of the catalog.

        Raises:
            BadInput: There is none of this name.
        """
        return self.source.catalog.get(image)

    def planned(self, image: str) -> PlannedImage | None:
        """What the plan says of an image; None without a plan."""
        return self.plan.by_name.get(image) if self.plan else None

    def why(self, image: str) -> tuple[str, ...]:
        """Why the image is part of the build."""
        planned = self.planned(image)
        if planned:
            return planned.reasons
        return tuple(self.reasons.get(image, ())) or ("chosen by a person",)

    def staging_reference(self, image: Image) -> Reference:
        """The staging tag of an image in this build."""
        return staging_reference(self.backends.staging.host, image.family, image.name, self.number)

    def saw_tag(self, image: str, digest: str) -> None:
        """Remember that this step has just written the staging tag of an image, and read back that it serves this."""
        self._tags_seen[image] = (digest, time.monotonic())

    def has_just_seen_tag(self, image: str, digest: str) -> bool:
        """Whether this step has done so within the last minute: a tag that is older may have moved."""
        seen, when = self._tags_seen.get(image, ("", 0.0))
        return seen == digest and time.monotonic() - when < _SEEN_SECONDS

    def has_ended(self) -> bool:
        """Whether the build has failed or was canceled, here or elsewhere."""
        record = self.folder.read_build()
        return record is not None and record.status in ENDED

    def begin(self) -> None:
        """Write `build.json` unless it is there. Every step calls this, because any may be the first.

        Raises:
            BuildStopped: Another step has failed and the build is being cleaned up: this step must stop.
        """
        record = self.folder.read_build() or self._create()
        if record.status in ENDED:
            raise BuildStopped(
                f"build {self.number} was stopped: its status is {record.status}",
                hint="See the step that failed first, and start a new build.",
            )

    def keeps(self, pushed: Sequence[Reference]) -> bool:
        """Whether staging has all of what this build has pushed, once nobody deletes any of it any more.

        The cleanup of another build with the same bytes may not have seen what names them, when it looked for that.

        Args:
            pushed: By digest. What names them, a tag or a list of what is attached, is written.

        Raises:
            BuildStopped: This build was stopped meanwhile.
        """
        until = time.monotonic() + _DELETION_SECONDS
        digests = [reference.digest for reference in pushed]
        while self.backends.artifacts.is_being_deleted(*digests) and time.monotonic() < until:
            time.sleep(_WAIT_SECONDS)
            self.begin()
        return all(self.backends.staging.digest(reference) is not None for reference in pushed)

    def _create(self) -> BuildRecord:
        """Write `build.json`; the one that is there if another step was faster, and may have failed since."""
        record = BuildRecord(
            build=self.number,
            run_id=self.run_id,
            status="running" if self.releasable else "partial",
            commit=self.source.commit,
            source=self.source.url,
            created=self.created,
            release_tag=self.release_tag,
            images=tuple(sorted(self.images)),
            keep_until=self.keep_until,
            trigger=self.trigger,
            pull_request=self.pull_request,
        )
        if self.plan:
            self.folder.write_plan(self.plan)
        try:
            self.folder.create_build(record)
        except FileExistsError:
            return self.folder.read_build() or record
        return record
