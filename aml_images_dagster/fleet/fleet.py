"""What is known of every image in production, and what of it needs a person."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from aml_images_dagster.builds.compliance.patches import PatchStatus, fixes_in_words
from aml_images_dagster.text import counted
from aml_images_dagster.vulnerabilities.vulnerability import rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from aml_images_dagster.builds.records import BuildStatus
    from aml_images_dagster.vulnerabilities.vulnerability import Severity

Status = Literal["act", "watch", "good", "unreleased"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""What an image needs, the most urgent first."""
NAMES: dict[Status, str] = {"act": "Action needed", "watch": "Watch", "good": "Good", "unreleased": "Not released"}

Origin = Literal["recorded", "elsewhere", "unrecorded"]

WORST: tuple[Severity, ...] = ("critical", "high")
"""Severities that stand out."""
NOT_ASKED = PatchStatus("unknown")
"""Of an image about which no source was asked yet."""
_END_OF_LIFE_SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Served:
    """What production serves as `:latest` of an image.

    Attributes:
        digest: Its digest.
        tag: Release tag; empty when no record has it.
        build: The build that was released; empty when no record has it.
        since: Since when it is served; None when it was not moved by a release or a rollback.
        built: Day on which it was built, UTC; None when no record says so.
        sizes: Compressed size in bytes of this release and those before it, oldest first; of the first platform.
        passed: How many scenarios it has passed; None when no record says so.
        untested: Platforms on which none has run.
        signed_by: Who has signed it; empty when nobody has.
        is_test_key: Whether that is a test key, which proves nothing.
    """

    digest: str
    tag: str = ""
    build: str = ""
    since: datetime | None = None
    built: date | None = None
    sizes: tuple[int, ...] = ()
    passed: int | None = None
    untested: tuple[str, ...] = ()
    signed_by: str = ""
    is_test_key: bool = False


@dataclass(frozen=True, slots=True)
class BaseState:
    """Whether an image is built on what its bases are now.

    Attributes:
        state: `pinned` is named by its digest or a release, and cannot change; `none` has no base.
        detail: Which base has changed, or why that is not known.
    """

    state: Literal["current", "behind", "pinned", "none", "unknown"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LastBuild:
    """The newest build that an image was part of, without those of pull requests.

    Attributes:
        build: Its number.
        status: How it ended.
        when: When it was started, UTC.
        why: Why the image was part of it, why it was built or what it was reused from, and what started the build.
        failure: Why it failed; else empty.
        failed_here: Whether it was this image that failed, or nobody knows which one.
        is_withdrawn: Whether its image was withdrawn, under any release tag: it is not released again.
    """

    build: str
    status: BuildStatus
    when: datetime
    why: str
    failure: str = ""
    failed_here: bool = False
    is_withdrawn: bool = False

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        return f"{self.status}, withdrawn" if self.is_withdrawn else self.status


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that a person should know of.

    Attributes:
        urgency: Whether somebody has to act now, or to keep an eye on it.
        text: What it is, in a few words.
    """

    urgency: Literal["act", "watch"]
    text: str


@dataclass(frozen=True, slots=True)
class FleetImage:
    """One image.

    Attributes:
        image: `<family>/<name>`.
        repository: Its repository in production.
        has_folder: Whether the repository of image folders has it.
        served: What production serves; None when that is nothing, or not known.
        unknown: Why it is not known what production serves; else empty.
        patches: Which fixes it lacks, and how long they may still be missing.
        looked: Sources that have looked for vulnerabilities of it.
        base: Whether its bases have changed.
        last_build: The last build; None when there was none lately.
        owners: Who owns it.
        eol: From this day on it is built only if it is named.
        size_budget_mb: Size in 10^6 bytes from which on it is too large.
        unfinished: What was not completed, e.g. `release of build 20261123.4f2a9c1e`; else empty.
        origin: Whether a release or a rollback has put what is served there; `elsewhere` is what has replaced that,
            `unrecorded` is an image that was never released here.
        must_be_signed: Whether builds sign what has passed.
    """

    image: str
    repository: str
    has_folder: bool = True
    served: Served | None = None
    unknown: str = ""
    patches: PatchStatus = NOT_ASKED
    looked: tuple[str, ...] = ()
    base: BaseState = BaseState("unknown")
    last_build: LastBuild | None = None
    owners: tuple[str, ...] = ()
    eol: date | None = None
    size_budget_mb: int | None = None
    unfinished: str = ""
    origin: Origin = "recorded"
    must_be_signed: bool = False

    @property
    def public(self) -> FleetImage:
        """The image without what is of the team alone: builds, owners, budgets, names of bases, how production came."""
        patches = replace(self.patches, not_looked=dict.fromkeys(self.patches.not_looked, ""))
        return FleetImage(
            image=self.image,
            repository=self.repository,
            served=self.served,
            patches=patches,
            looked=self.looked,
            base=BaseState(self.base.state),
            eol=self.eol,
            must_be_signed=self.must_be_signed,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """An image with what a person should know of it.

    Attributes:
        facts: What is known of it.
        concerns: What needs a person, the most urgent first.
        status: How urgent that is.
        age_days: Days since what production serves was built; None when that is not known.
    """

    facts: FleetImage
    concerns: tuple[Concern, ...]
    status: Status
    age_days: int | None

    @classmethod
    def of(cls, facts: FleetImage, now: datetime) -> Row:
        """Evaluate what is known of an image, at a time, UTC."""
        concerns = tuple(sorted(_concerns(facts, now.date()), key=lambda each: each.urgency))
        status: Status = concerns[0].urgency if concerns else "good" if facts.served else "unreleased"
        built = facts.served.built if facts.served else None
        return cls(facts, concerns, status, (now.date() - built).days if built else None)

    def document(self) -> dict[str, Any]:
        """The image for programs."""
        patches = self.facts.patches
        facts = asdict(replace(self.facts, patches=NOT_ASKED))
        document = {
            "image": self.facts.image,
            "status": self.status,
            "concerns": [asdict(concern) for concern in self.concerns],
            "age_days": self.age_days,
            **{name: value for name, value in facts.items() if name != "looked"},
            "patches": {
                "state": patches.state,
                "days_left": patches.days_left,
                "oldest": first_fix(patches),
                "missing": len(patches.missing),
                "found": by_severity(patches.found),
                "looked": self.facts.looked,
                "not_looked": dict(patches.not_looked),
                "asked": patches.asked,
            },
        }
        plain: dict[str, Any] = _plain(document)
        return plain

    @property
    def order(self) -> tuple[object, ...]:
        """By which rows are sorted: what needs a person first, then what has the fewest days left."""
        patches = self.facts.patches
        left = patches.days_left
        worst = [-patches.found.get(severity, 0) for severity in WORST]
        urgent = sum(concern.urgency == "act" for concern in self.concerns)
        return (
            STATUSES.index(self.status),
            -urgent,
            left is None,
            left or 0,
            *worst,
            -len(self.concerns),
            self.facts.image,
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """Every image, what needs a person first.

    Attributes:
        rows: The images.
        when: When it was collected, UTC.
        patch_within_days: Days within which a fix is to be in production.
    """

    rows: tuple[Row, ...]
    when: datetime
    patch_within_days: int

    @classmethod
    def of(cls, images: Iterable[FleetImage], when: datetime, patch_within_days: int) -> Fleet:
        """A fleet of images, sorted."""
        rows = (Row.of(image, when) for image in images)
        return cls(tuple(sorted(rows, key=lambda row: row.order)), when, patch_within_days)

    @property
    def public(self) -> Fleet:
        """The fleet as everybody may see it: what is in production, without what is of the team alone."""
        released = (row.facts.public for row in self.rows if row.facts.served)
        return Fleet.of(released, self.when, self.patch_within_days)

    @property
    def counts(self) -> dict[Status, int]:
        """How many images have each status."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in STATUSES}

    @property
    def summary(self) -> str:
        """How the fleet is, in a line, e.g. `12 images: 1 action needed, 2 watch, 9 good`."""
        said = [f"{count} {NAMES[status].lower()}" for status, count in self.counts.items() if count]
        return f"{counted(len(self.rows), 'image')}: {', '.join(said)}" if said else "no images"

    def document(self) -> dict[str, Any]:
        """The fleet for programs."""
        return {
            "when": self.when.isoformat(),
            "patch_within_days": self.patch_within_days,
            "counts": self.counts,
            "images": [row.document() for row in self.rows],
        }


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value


def first_fix(patches: PatchStatus) -> str:
    """The fix that is missing the longest, e.g. `openssl 3.0.15-1 → 3.0.16-1 (CVE-2026-1)`; empty when none is."""
    return next(iter(fixes_in_words(patches.missing[:1])), "")


def by_severity(found: Mapping[Severity, int]) -> dict[Severity, int]:
    """The severities of which something was found, the worst first."""
    return {each: found[each] for each in sorted(found, key=rank, reverse=True) if found[each]}


def _concerns(image: FleetImage, today: date) -> Iterator[Concern]:
    yield from _of_vulnerabilities(image)
    build = image.last_build
    if build and build.status == "failed" and build.failed_here:
        yield Concern("act", "last build failed")
    elif build and build.status == "failed":
        yield Concern("watch", "last build failed elsewhere")
    yield from _of_production(image)
    yield from _of_the_folder(image, today)


def _of_production(image: FleetImage) -> Iterator[Concern]:
    served = image.served
    if image.unknown:
        yield Concern("watch", "not known what production serves")
    if image.unfinished:
        yield Concern("act", f"{image.unfinished} not completed")
    if served is None:
        return
    if image.origin == "elsewhere":
        yield Concern("act", "production was changed elsewhere")
    elif image.origin == "unrecorded":
        yield Concern("watch", "released elsewhere")
    elif image.must_be_signed and not served.signed_by:
        yield Concern("watch", "not signed")
    if image.base.state == "behind":
        yield Concern("watch", "base has changed")
    if image.size_budget_mb and served.sizes and served.sizes[-1] > image.size_budget_mb * 1e6:
        yield Concern("watch", f"larger than {image.size_budget_mb} MB")


def _of_vulnerabilities(image: FleetImage) -> Iterator[Concern]:
    patches = image.patches
    if image.served is None:
        return
    if patches.state == "overdue" and patches.days_left is not None:
        yield Concern("act", f"patch {counted(-patches.days_left, 'day')} late")
    elif patches.state == "due soon" and patches.days_left is not None:
        yield Concern("watch", f"{counted(patches.days_left, 'day')} left to patch")
    if patches.asked is None:
        yield Concern("watch", "not yet scanned")
    elif not image.looked:
        yield Concern("watch", "nobody could look for vulnerabilities")
    elif patches.state == "unknown":
        yield Concern("watch", "not scanned by all" if patches.not_looked else "not scanned lately")


def _of_the_folder(image: FleetImage, today: date) -> Iterator[Concern]:
    if image.served is None:
        return
    if not image.has_folder:
        yield Concern("act", "in production without a folder")
    if image.eol is None:
        return
    if today >= image.eol:
        yield Concern("act", "past its end of life")
    elif image.eol - today <= _END_OF_LIFE_SOON:
        yield Concern("watch", f"end of life in {counted((image.eol - today).days, 'day')}")
