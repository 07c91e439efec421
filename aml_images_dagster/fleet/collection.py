"""Collects what is known of every image: from records, from production, and from the registries of its bases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from itertools import takewhile
from typing import TYPE_CHECKING, TypeVar

from aml_images_dagster.builds.compliance.patches import ProductionScans, patch_status
from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, FactoryError, Unreachable
from aml_images_dagster.fleet.fleet import NOT_ASKED, BaseState, Fleet, FleetImage, LastBuild, Served
from aml_images_dagster.registry.interface import NoAnswer
from aml_images_dagster.upstream import base_name, is_fixed
from aml_images_dagster.vulnerabilities.policy import read_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.compliance.patches import PatchStatus
    from aml_images_dagster.builds.records import BuildRecord, Plan, StagedImage
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.fleet.fleet import Origin
    from aml_images_dagster.registry.resolution import ResolvedBase
    from aml_images_dagster.settings import Settings

R = TypeVar("R")

_AT_ONCE = 16
"""Questions to production, and files of the artifacts, that are asked for at once."""
_BUILDS = 500
"""The newest builds, in which the last one of an image is looked for."""
_RELEASES = 12
"""Releases that show how the size of an image has changed."""


def collect_fleet(source: Source, backends: Backends, settings: Settings, now: datetime) -> Fleet:
    """Collect what is known of every image that the source has, and of every other that production serves.

    Production is asked once for each image, and registries once for each external base of what it serves.

    Args:
        source: The image folders.
        backends: Production, the registries of bases, the artifacts.
        settings: Names in production, and what is promised.
        now: The time, UTC.

    Raises:
        NoAnswer: Production does not answer at all.
        BadInput: A release record cannot be read, or policy.yaml is wrong.
    """
    return _Collection(source, backends, settings, now).fleet()


@dataclass(frozen=True, slots=True)
class _InProduction:
    """What is asked of production, and what it answers.

    Attributes:
        image: `<family>/<name>`.
        repository: Its repository in production.
        digest: What it serves as `:latest`; None for nothing.
        unknown: Why that is not known; else empty.
    """

    image: str
    repository: str
    digest: str | None = None
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What records say of what production serves.

    Attributes:
        served: The same for people.
        staged: Its record in the build that was released; None when there is none.
        origin: See `FleetImage`.
    """

    served: Served
    staged: StagedImage | None
    origin: Origin


class _Collection:
    def __init__(self, source: Source, backends: Backends, settings: Settings, now: datetime) -> None:
        self._source = source
        self._backends = backends
        self._settings = settings
        self._now = now
        self._history = History(Ledger(backends.artifacts).records())
        self._scans = ProductionScans(backends.artifacts)
        self._policy = read_policy(source.tree)
        self._plan: Callable[[BuildFolder], Plan | None] = cache(_plan_of)

    def fleet(self) -> Fleet:
        images = self._source.catalog.images
        unfinished = {
            change.image: f"{record.action} of build {record.build}"
            for record in self._history.unfinished()
            for change in record.changes
        }
        with ThreadPoolExecutor(_AT_ONCE, "fleet") as pool:
            asked = [each for each in pool.map(self._ask, self._images()) if each.image in images or each.digest]
            recorded = dict(zip([each.image for each in asked], pool.map(self._recorded, asked), strict=True))
            patches = dict(zip(recorded, pool.map(self._patches, recorded.items()), strict=True))
            builds = self._last_builds([each.image for each in asked], pool)
        bases = _Bases(self._source, self._backends, recorded)
        facts = []
        for each in asked:
            found, image = recorded[each.image], images.get(each.image)
            status, looked = patches[each.image]
            facts.append(
                FleetImage(
                    image=each.image,
                    repository=each.repository,
                    has_folder=image is not None,
                    served=found.served if found else None,
                    unknown=each.unknown,
                    patches=status,
                    looked=looked,
                    base=bases.state(found.staged if found else None),
                    last_build=builds.get(each.image),
                    owners=image.settings.owners if image else (),
                    eol=image.settings.eol if image else None,
                    size_budget_mb=image.settings.size_budget_mb if image else None,
                    unfinished=unfinished.get(each.image, ""),
                    origin=found.origin if found else "recorded",
                    must_be_signed=self._settings.trust.attach,
                )
            )
        return Fleet.of(facts, self._now, self._settings.vulnerabilities.patch_within_days)

    def _images(self) -> list[_InProduction]:
        """Every image of the source, and every other of which `:latest` was moved."""
        moved = {
            change.image: change.repository
            for record in self._history.changes
            for change in record.changes
            if change.tag == LATEST
        }
        named = {
            image.id: self._settings.production_names.format(name=image.name, family=image.family)
            for image in self._source.catalog.images.values()
        }
        return [_InProduction(image, repository) for image, repository in sorted({**named, **moved}.items())]

    def _ask(self, image: _InProduction) -> _InProduction:
        production = self._backends.production
        try:
            digest = production.digest(Reference(production.host, image.repository, LATEST))
        except NoAnswer:
            raise
        except Unreachable as error:
            return _InProduction(image.image, image.repository, unknown=str(error))
        # Another image may have had this name in production before, or have it now.
        if digest is not None and self._history.owner(image.repository, digest) not in (None, image.image):
            digest = None
        return _InProduction(image.image, image.repository, digest)

    def _recorded(self, image: _InProduction) -> _Recorded | None:
        if image.digest is None:
            return None
        record = self._history.latest(image.repository, image.digest).record
        change = record.named(f"{image.repository}:{LATEST}") if record else None
        if record is None or change is None or change.after != image.digest:
            return _Recorded(Served(image.digest), None, "elsewhere" if record else "unrecorded")
        folder = self._backends.artifacts.build(record.build)
        staged = _readable(lambda: folder.read_staged(image.image))
        tested = _readable(lambda: folder.read_tested(image.image))
        evidence = _readable(lambda: folder.read_evidence(image.image))
        is_signed = evidence is not None and evidence.digest == image.digest
        since = self._served_since(image)
        served = Served(
            digest=image.digest,
            tag=record.release_tag,
            build=record.build,
            since=since,
            built=_day(staged.built_in if staged else record.build),
            sizes=self._sizes(image, record.build, staged),
            passed=len(tested.scenarios) if tested else None,
            untested=tested.untested if tested else (),
            signed_by=evidence.signed_by if evidence and is_signed else "",
            is_test_key=bool(evidence and is_signed and evidence.is_test_key),
        )
        return _Recorded(served, staged, "recorded" if since else "elsewhere")

    def _served_since(self, image: _InProduction) -> datetime | None:
        """Since when `:latest` points to what it points to; None when no record has moved it there."""
        since = None
        for record, change in reversed(self._history.of(f"{image.repository}:{LATEST}")):
            if change.after != image.digest:
                break
            since = record.when
        return since

    def _sizes(self, image: _InProduction, build: str, staged: StagedImage | None) -> tuple[int, ...]:
        """The sizes of the last releases up to that of a build, which comes last."""
        moves = self._history.of(f"{image.repository}:{LATEST}")
        builds = dict.fromkeys(
            record.build for record, change in moves if record.action == "release" and change.image == image.image
        )
        before = list(takewhile(lambda each: each != build, builds))[1 - _RELEASES :]
        folders = [self._backends.artifacts.build(each) for each in before]
        records = [_readable(partial(folder.read_staged, image.image)) for folder in folders]
        return tuple(each.size_bytes for each in (*records, staged) if each)

    def _patches(self, image: tuple[str, _Recorded | None]) -> tuple[PatchStatus, tuple[str, ...]]:
        name, recorded = image
        scan = self._scans.read(name) if recorded else None
        if recorded is None or scan is None or scan.digest != recorded.served.digest:
            return NOT_ASKED, ()
        within = self._settings.vulnerabilities.patch_within_days
        status = patch_status(scan, recorded.served.digest, self._policy, within, self._now)
        return status, tuple(each.source for each in scan.sources if each.looked)

    def _last_builds(self, images: Iterable[str], pool: ThreadPoolExecutor) -> dict[str, LastBuild]:
        """The newest build of each image, without those of pull requests."""
        folders = sorted(self._backends.artifacts.folders(), key=lambda folder: folder.build, reverse=True)[:_BUILDS]
        records = zip(folders, pool.map(lambda folder: _readable(folder.read_build), folders), strict=True)
        begun = [(folder, record) for folder, record in records if record and not record.pull_request]
        newest: dict[str, tuple[BuildFolder, BuildRecord]] = {}
        for folder, record in sorted(begun, key=lambda each: each[1].created):
            newest |= dict.fromkeys(record.images, (folder, record))
        built = [image for image in images if image in newest]
        return dict(zip(built, pool.map(lambda image: self._last_build(image, *newest[image]), built), strict=True))

    def _last_build(self, image: str, folder: BuildFolder, record: BuildRecord) -> LastBuild:
        plan = self._plan(folder)
        planned = plan.by_name.get(image) if plan else None
        withdrawn = self._history.withdrawn_of(image)
        staged = None if planned and not withdrawn else _readable(lambda: folder.read_staged(image))
        of_image = planned or staged
        reasons = (*of_image.reasons, *of_image.because) if of_image else ()
        failure = record.failure if record.status == "failed" else None
        return LastBuild(
            build=record.build,
            status=record.status,
            when=record.created,
            why="; ".join(dict.fromkeys(filter(None, (*reasons, record.started_by)))),
            failure=failure.message if failure else "",
            failed_here=record.status == "failed" and _may_have_failed(image, record),
            is_withdrawn=staged is not None and staged.digest in withdrawn,
        )


class _Bases:
    """Whether images are built on what their bases are now.

    Args:
        source: Says which bases are images of the catalog.
        backends: Their resolver asks registries.
        recorded: What production serves of each image.
    """

    def __init__(self, source: Source, backends: Backends, recorded: Mapping[str, _Recorded | None]) -> None:
        self._published = source.catalog.published
        self._digests = {image: each.served.digest for image, each in recorded.items() if each}
        staged = [each.staged for each in recorded.values() if each and each.staged]
        named = {base.reference for each in staged for base in each.bases}
        self._answers: dict[str, ResolvedBase | BadInput] = {}
        external = {}
        for reference in sorted(named):
            try:
                ours = self._published.resolve(reference) or self._published.release(reference)
            except BadInput as error:  # several images are published under it
                self._answers[reference] = error
                continue
            if ours is None and not is_fixed(reference):
                external[reference] = base_name(reference)
        if external:
            answers = backends.resolver.observe(dict.fromkeys(external.values()))
            self._answers |= {reference: answers[name] for reference, name in external.items()}

    def state(self, staged: StagedImage | None) -> BaseState:
        """The state of what an image was built on, the least good of its bases first."""
        if staged is None:
            return BaseState("unknown", "no record says what it is built on")
        found = [self._of(base.reference, base.digest) for base in staged.bases]
        if not found:
            return BaseState("none")
        order = ("behind", "unknown", "current", "pinned")
        worst = min(order.index(each.state) for each in found)
        details = [each.detail for each in found if each.state == order[worst] and each.detail]
        return BaseState(order[worst], ", ".join(details))  # type: ignore[arg-type]

    def _of(self, reference: str, digest: str) -> BaseState:
        answer = self._answers.get(reference)
        if isinstance(answer, BadInput):
            return BaseState("unknown", ": ".join(filter(None, (answer.where, answer.what))))
        if answer is not None:
            return BaseState("current") if answer.digest == digest else BaseState("behind", reference)
        parent = self._published.resolve(reference)
        if parent is None:
            return BaseState("pinned")
        if parent not in self._digests:
            return BaseState("unknown", f"{parent} is not in production")
        return BaseState("current") if self._digests[parent] == digest else BaseState("behind", parent)


def _plan_of(folder: BuildFolder) -> Plan | None:
    return _readable(folder.read_plan)


def _readable(read: Callable[[], R | None]) -> R | None:
    """A record; None also for one that cannot be read: the rest is shown without it."""
    try:
        return read()
    except (FactoryError, OSError):
        return None


def _day(build: str) -> date:
    """The day in the number of a build."""
    return date.fromisoformat(build[:8])


def _may_have_failed(image: str, record: BuildRecord) -> bool:
    """Whether the step that failed first is one of the image, or of nobody who is known."""
    failed = [each for each in record.images if record.failure and record.failure.is_of(each)]
    return not failed or image in failed
