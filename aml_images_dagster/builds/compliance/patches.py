"""Patches: the fixes that an image in production lacks, since when they are available, and the days that are left.

Once a day all sources of vulnerabilities are asked about every image that production serves, and their answers are
kept: `<artifacts>/production_scans/<family>/<name>.json`, one file for each image, replaced by the next answer. What
the answers mean is computed when they are read, because days pass and exceptions of `policy.yaml` end.

A fix counts if the policy does not allow to go without it: a security update of the distribution, or a vulnerability
of the policy's severity, without an exception that is valid today. Days of grace are those of the gate alone.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field, ValidationError

from aml_images_dagster.builds.artifacts import below, read_whole, write_atomically
from aml_images_dagster.builds.records import Account
from aml_images_dagster.text import counted, first_of
from aml_images_dagster.vulnerabilities.policy import WITHOUT_POLICY, assess
from aml_images_dagster.vulnerabilities.vulnerability import Scan, Severity, Vulnerability, merged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from upath import UPath

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.vulnerabilities.policy import Policy

_TOO_OLD = timedelta(days=2)
"""After this a scan does not say any more that an image is patched: the sources are asked every day."""
_SOON = 3
"""A fix is due soon when this fraction of the days is left."""

_NAMED = 5
"""Packages and identifiers that a line names."""

PatchState = Literal["patched", "missing", "due soon", "overdue", "unknown"]
"""From the best to the worst; `unknown` is no answer: not asked yet, not asked lately, or a source could not look."""


class SourceAnswer(Account):
    """Whether a source has looked at an image.

    Attributes:
        source: Name of the source.
        looked: Whether it has looked.
        detail: Why it has not looked, or what it cannot know.
        failed: See `Scan`.
    """

    source: str
    looked: bool
    detail: str = ""
    failed: bool = False


class Rebuild(Account):
    """A rebuild that brings fixes.

    Attributes:
        image: `<family>/<name>` of what has to be rebuilt: the image itself, or one that it is FROM.
        forced: Whether the content key does not know of the fixes.
        fixes: What it brings, a line for each update (`fixes_in_words`).
    """

    image: str
    forced: bool
    fixes: tuple[str, ...]


class ProductionScan(Account):
    """What all sources have said of an image that production serves.

    Attributes:
        image: `<family>/<name>`.
        digest: What was asked about: what production served as `:latest`.
        asked: When, UTC.
        sources: Every source that was asked.
        fixable: Vulnerabilities with a fix; also those that an earlier scan has found and whose source has not looked
            since. The day of a fix is the one that the source names, else the first day on which this fix was found.
        found: How many vulnerabilities were found, with and without a fix, by severity.
        rebuilds: What has to be rebuilt for the fixes that it lacks.
        waits_for: The build that has all these fixes and was not released yet; else empty.
        of_earlier: Those that were found in what production served before, and whose source has not looked since: when
            it finds them again, their days go on.
        by_person: Whether a person has asked, and not the sensor: then rebuilds that were given up are tried again.
    """

    image: str
    digest: str
    asked: AwareDatetime
    sources: tuple[SourceAnswer, ...]
    fixable: tuple[Vulnerability, ...]
    found: dict[Severity, int] = Field(default_factory=dict)
    rebuilds: tuple[Rebuild, ...] = ()
    waits_for: str = ""
    of_earlier: tuple[Vulnerability, ...] = ()
    by_person: bool = False

    @classmethod
    def of(
        cls, image: str, digest: str, asked: datetime, scans: Collection[Scan], before: ProductionScan | None
    ) -> ProductionScan:
        """The record of what sources have said.

        Args:
            image: `<family>/<name>`.
            digest: What they were asked about.
            asked: When, UTC.
            scans: What they have said.
            before: The record that this one replaces, also one of another digest.
        """
        found, of_earlier = list(merged(tuple(scans))), []
        days = {}
        if before is not None:
            is_same = before.digest == digest
            of_earlier = _not_looked_for(before.of_earlier if is_same else before.known, scans)
            found += _not_looked_for(before.fixable, scans) if is_same else []
            days = {_key(each): each.fixed_since for each in before.known}
        return cls(
            image=image,
            digest=digest,
            asked=asked,
            sources=tuple(
                SourceAnswer(source=scan.source, looked=scan.has_looked, detail=scan.detail, failed=scan.failed)
                for scan in scans
            ),
            fixable=tuple(
                replace(each, fixed_since=each.fixed_since or days.get(_key(each)) or asked.date())
                for each in found
                if each.fixed_in
            ),
            found=dict(Counter(each.severity for each in found)),
            of_earlier=tuple(of_earlier),
        )

    @property
    def known(self) -> tuple[Vulnerability, ...]:
        """Every vulnerability with a fix, and the day of that."""
        return (*self.of_earlier, *self.fixable)

    @property
    def not_looked(self) -> dict[str, str]:
        """Sources that have not looked, each with the reason."""
        return {each.source: each.detail for each in self.sources if not each.looked}

    @property
    def failed(self) -> dict[str, str]:
        """Those of them that are worth asking again soon."""
        return {each.source: each.detail for each in self.sources if each.failed}

    @property
    def remedy(self) -> str:
        """What brings the fixes that it lacks, in a sentence; empty where no build and no rebuild does."""
        if self.waits_for:
            return f"Build {self.waits_for} has what it lacks: release it."
        images = sorted({rebuild.image for rebuild in self.rebuilds})
        return f"A rebuild of {', '.join(images)} is to bring it." if images else ""


class ProductionScans:
    """The scans of an artifacts store.

    Args:
        artifacts: The store.
    """

    def __init__(self, artifacts: Artifacts) -> None:
        self._folder = artifacts.root / "production_scans"

    def read(self, image: str) -> ProductionScan | None:
        """The last scan of an image; None where there is none, or none of this version: sources are asked again."""
        try:
            scan = ProductionScan.model_validate_json(read_whole(self._path(image)))
        except (FileNotFoundError, ValidationError):
            return None
        return scan if scan.image == image else None

    def read_all(self) -> dict[str, ProductionScan]:
        """The last scan of every image that has one, by `<family>/<name>`."""
        filesystem, folder = self._folder.fs, self._folder.path
        filesystem.invalidate_cache(folder)
        paths = [path for path in filesystem.find(folder) if path.endswith(".json")]
        found = {}
        for data in (filesystem.cat(paths) if paths else {}).values():
            with suppress(ValidationError):
                scan = ProductionScan.model_validate_json(data)
                found[scan.image] = scan
        return found

    def remove(self, image: str) -> None:
        """Forget an image that production does not serve any more."""
        self._path(image).unlink(missing_ok=True)

    def write(self, scan: ProductionScan) -> None:
        """Keep a scan in the place of the last one of its image."""
        write_atomically(self._path(scan.image), (scan.model_dump_json(indent=2) + "\n").encode(), durable=False)

    def _path(self, image: str) -> UPath:
        return below(self._folder, f"{image}.json")


@dataclass(frozen=True, slots=True)
class PatchStatus:
    """How an image in production stands to the promise.

    Attributes:
        state: See `PatchState`.
        missing: The vulnerabilities that count and have a fix that the image lacks, that of the oldest fix first.
        days_left: Days until the oldest of these fixes has to be in production: 0 on the last day, negative after it;
            None when nothing is missing.
        asked: When the sources were asked about what production serves now, UTC; None when they were not.
        not_looked: Sources that have not looked, each with the reason.
        found: How many vulnerabilities were found, by severity.
    """

    state: PatchState
    missing: tuple[Vulnerability, ...] = ()
    days_left: int | None = None
    asked: datetime | None = None
    not_looked: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[Severity, int] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """All of it, in a sentence or two."""
        if self.asked is None:
            return "No source was asked yet about what production serves."
        not_looked = "".join(f" {source} has not looked: {why}." for source, why in self.not_looked.items())
        if self.oldest is None or self.days_left is None:
            asked = "" if self.state == "patched" else f" Asked on {self.asked:%Y-%m-%d}."
            return f"No missing fix is known.{asked}{not_looked}"
        (fix,) = fixes_in_words([self.oldest])
        others = len(self.missing) - 1
        more = f" {others} more {'is' if others == 1 else 'are'} missing." if others else ""
        return f"{fix}, available since {self.oldest.fixed_since}: {_days(self.days_left)}.{more}{not_looked}"

    @property
    def oldest(self) -> Vulnerability | None:
        """The vulnerability whose fix is available for the longest time; its `fixed_since` is that day."""
        return self.missing[0] if self.missing else None


def patch_status(
    scan: ProductionScan | None, served: str, policy: Policy | None, within_days: int, now: datetime
) -> PatchStatus:
    """How an image stands to the promise.

    Args:
        scan: What is kept of it (`ProductionScans.read`).
        served: The digest that production serves now.
        policy: The policy of the repository; None where it has none.
        within_days: The setting `vulnerabilities.patch_within_days`.
        now: The time, UTC.
    """
    if scan is None or scan.digest != served:
        return PatchStatus("unknown")
    missing = missing_fixes(scan, policy, now.date())
    oldest = missing[0].fixed_since if missing else None
    days_left = within_days - (now.date() - oldest).days if oldest else None
    return PatchStatus(
        state=_state(scan, days_left, within_days, now),
        missing=missing,
        days_left=days_left,
        asked=scan.asked,
        not_looked=scan.not_looked,
        found=scan.found,
    )


def missing_fixes(scan: ProductionScan, policy: Policy | None, today: date) -> tuple[Vulnerability, ...]:
    """The vulnerabilities of a scan that count and have a fix, that of the oldest fix first."""
    fixable = Scan(", ".join(each.source for each in scan.sources), scan.fixable)
    assessment = assess([fixable], policy or WITHOUT_POLICY, scan.image, today)
    missing = (*assessment.blocking, *assessment.in_grace)
    return tuple(sorted(missing, key=lambda each: (each.fixed_since or today, each.package, each.id)))


def fixes_in_words(missing: Iterable[Vulnerability]) -> tuple[str, ...]:
    """What a rebuild is to bring, a line for each update, e.g. `openssl 3.0.15-1 → 3.0.16-1 (CVE-2026-1, CVE-2026-2)`.

    Of several fixes of a package the newest names the version, which has the others as well. Packages of one update,
    which have the same versions and vulnerabilities, share a line.
    """
    by_package: dict[tuple[str, str], list[Vulnerability]] = {}
    for each in missing:
        by_package.setdefault((each.package, each.installed), []).append(each)
    packages: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (package, installed), several in by_package.items():
        newest = max(several, key=lambda each: each.fixed_since or date.min)
        ids = tuple(dict.fromkeys(each.id for each in several))
        packages.setdefault((installed, newest.fixed_in, ids), []).append(package)
    return tuple(
        f"{first_of(names, _NAMED)} {installed} → {fixed_in} ({first_of(ids, _NAMED)})"
        for (installed, fixed_in, ids), names in packages.items()
    )


def _state(scan: ProductionScan, days_left: int | None, within_days: int, now: datetime) -> PatchState:
    if days_left is not None:
        if days_left < 0:
            return "overdue"
        return "due soon" if days_left * _SOON <= within_days else "missing"
    return "unknown" if scan.not_looked or not scan.sources or now - scan.asked > _TOO_OLD else "patched"


def _days(left: int) -> str:
    if left < 0:
        return f"{counted(-left, 'day')} overdue"
    return f"{counted(left, 'day')} left" if left else "to be in production today"


def _not_looked_for(known: Iterable[Vulnerability], scans: Collection[Scan]) -> list[Vulnerability]:
    """What was known and is not found again, because a source of it could not look."""
    found = {_key(each) for each in merged(tuple(scans))}
    blind = {scan.source for scan in scans if not scan.has_looked}
    return [each for each in known if _key(each) not in found and blind.intersection(each.source.split(", "))]


def _key(vulnerability: Vulnerability) -> tuple[str, str, str]:
    return vulnerability.id, vulnerability.package, vulnerability.fixed_in
