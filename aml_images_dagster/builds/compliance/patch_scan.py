"""The daily scan of production: which fixes an image lacks, and which rebuild would bring them.

Nothing is pulled: sources get the inventory, which is read from records of layers.

A rebuild brings a fix

- if instructions of the image install the package from its distribution: the package is not in a base in this version,
  or a `RUN` with apt names it or upgrades everything. No content key covers what `RUN` fetches, so it has to be forced;
- if the package comes from a base, and what the base's name stands for now has the fix: the content key knows that.

If the package comes from a parent, it is the parent that has to be rebuilt, and what is FROM it follows. Where the
newest build of an image that can be released has the fix already, nothing is left but to release it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.compliance.patches import ProductionScan, Rebuild, fixes_in_words, missing_fixes
from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.naming import split_staging_tag
from aml_images_dagster.builds.records import why_unreleasable
from aml_images_dagster.builds.steps.parents import in_production, released
from aml_images_dagster.builds.versions.image_lookup import find_base, find_reference
from aml_images_dagster.builds.versions.image_versions import ImageVersions
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from aml_images_dagster.trust.packages import DISTRIBUTIONS
from aml_images_dagster.vulnerabilities.policy import read_policy
from aml_images_dagster.vulnerabilities.scanning import of_all_platforms, scan
from aml_images_dagster.vulnerabilities.vulnerability import Scan, merged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import BaseImage, StagedImage
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.image_file import Content
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.vulnerabilities.vulnerability import Vulnerability

_APT = r"\b(?:apt|apt-get|aptitude)\b"
_UPGRADES = re.compile(rf"{_APT}[^\n]*\b(?:upgrade|dist-upgrade|full-upgrade)\b")
_CONTINUED = re.compile(r"[\\`]\n")


@dataclass(frozen=True, slots=True)
class _Version:
    """One version of an image of the catalog.

    Attributes:
        image: The image.
        registry: Where it is.
        reference: The version there, by digest.
        staged: The record of its build; None when it is not known.
        is_released: Whether production serves it.
    """

    image: Image
    registry: Registry
    reference: Reference
    staged: StagedImage | None
    is_released: bool


class ProductionScanner:
    """Asks all sources about images in production; about what several images share once.

    Args:
        source: The image folders, with the policy.
        backends: Registries and artifacts.
        settings: Which sources are asked.

    Raises:
        BadInput: The policy is wrong.
    """

    def __init__(self, source: Source, backends: Backends, settings: Settings) -> None:
        self._source = source
        self._backends = backends
        self._settings = settings
        self._policy = read_policy(source.tree)
        self._records = LayerRecords(settings.layer_records)
        self._packages: dict[tuple[str, tuple[str, ...]], set[tuple[str, str, str]]] = {}
        self._scans: dict[str, tuple[Scan, ...]] = {}

    def scan(self, image: Image, before: ProductionScan | None, now: datetime) -> ProductionScan | None:
        """Ask about what production serves of an image.

        Args:
            image: The image.
            before: What was kept of it.
            now: The time, UTC.

        Returns:
            What is to be kept; None if production serves nothing. What cannot be read is a scan of which no source has
            looked, with the reason.

        Raises:
            Unreachable: Production does not answer.
        """
        served = released(image, self._backends, self._settings)
        if served is None:
            return None
        try:
            version = self._served(image, served)
            found = ProductionScan.of(image.id, served.digest, now, self._scanned(version), before)
        except (BadInput, Unreachable) as error:
            sources = self._settings.vulnerabilities.sources
            failed = [Scan(source, None, f"the image cannot be read: {error.what}", failed=True) for source in sources]
            found = ProductionScan.of(image.id, served.digest, now, failed, before)
            return found.model_copy(update=_remedy_of(before, served.digest))
        missing = missing_fixes(found, self._policy, now.date())
        try:
            rebuilds, waits_for = self._rebuilds(version, missing) if missing else ([], "")
        except (BadInput, Unreachable):  # another registry, of which what is found in production does not depend
            return found.model_copy(update=_remedy_of(before, served.digest) if missing else {})
        return found.model_copy(update={"rebuilds": tuple(rebuilds), "waits_for": waits_for})

    def _rebuilds(self, served: _Version, missing: Sequence[Vulnerability]) -> tuple[list[Rebuild], str]:
        """The rebuilds that bring fixes, and the build that has them all and was not released yet."""
        newest = self._newest(served.image) or served
        wanted = _still_in(self._scanned(newest), missing)
        if not wanted:
            return [], "" if newest.is_released or newest.staged is None else _build_of(newest.staged)
        by_image: dict[tuple[str, bool], list[Vulnerability]] = defaultdict(list)
        for name, forced, each in self._bringing(newest, wanted):
            by_image[name, forced].append(each)
        return [
            Rebuild(image=name, forced=forced, fixes=fixes_in_words(fixes))
            for (name, forced), fixes in sorted(by_image.items())
        ], ""

    def _bringing(
        self, version: _Version, missing: Sequence[Vulnerability]
    ) -> Iterator[tuple[str, bool, Vulnerability]]:
        """What has to be rebuilt for each fix, and whether by force; nothing for what no rebuild brings."""
        image = version.image
        bases = sorted(
            version.staged.bases if version.staged else (), key=lambda b: b.reference != image.dockerfile.base
        )
        packages = {base: self._packages_of(version, base) for base in bases}
        by_base: dict[BaseImage, list[Vulnerability]] = defaultdict(list)
        for each in missing:
            package = (each.type, each.package, each.installed)
            origin = next((base for base in bases if package in packages[base]), None)
            if origin is not None and not _is_renewed(image, each.package):
                by_base[origin].append(each)
            elif each.type in DISTRIBUTIONS:
                yield image.id, True, each
        for base, several in by_base.items():
            parent = self._source.catalog.published.resolve(base.reference)
            yield from self._by_parent(image, parent, several) if parent else self._by_base(image, base, several)

    def _by_parent(
        self, image: Image, parent: str, missing: Sequence[Vulnerability]
    ) -> Iterator[tuple[str, bool, Vulnerability]]:
        newest = self._newest(self._source.catalog.images[parent])
        if newest is None:
            return
        still = _still_in(self._scanned(newest), missing)
        yield from self._bringing(newest, still)
        if newest.is_released:  # else it is to be released first: builds are FROM releases
            yield from ((image.id, False, each) for each in missing if each not in still)

    def _by_base(
        self, image: Image, base: BaseImage, missing: Sequence[Vulnerability]
    ) -> Iterator[tuple[str, bool, Vulnerability]]:
        try:
            now = find_reference(self._settings, self._backends, base.reference)
            if now.reference.digest in ("", base.digest):
                return
            still = _still_in(self._scanned_at(now.registry, now.reference, image.platforms), missing)
        except (BadInput, Unreachable):
            return
        yield from ((image.id, False, each) for each in missing if each not in still)

    def _served(self, image: Image, served: Reference) -> _Version:
        repository = in_production(image, self._backends, self._settings).repository
        known = ImageVersions(image.id, repository, self._backends).served(served.digest)
        return _Version(image, self._backends.production, served, known.staged, is_released=True)

    def _newest(self, image: Image) -> _Version | None:
        """The last image that has passed and can be released, else what production serves."""
        served = released(image, self._backends, self._settings)
        passed = self._backends.artifacts.read_last_passed(image.id)
        is_newer = passed and (served is None or passed.staged.digest != served.digest)
        if passed and is_newer and self._may_be_released(passed.staged):
            staging = self._backends.staging
            reference = Reference(staging.host, image.family, digest=passed.staged.digest)
            if staging.digest(reference) is not None:
                return _Version(image, staging, reference, passed.staged, is_released=False)
        return self._served(image, served) if served else None

    def _may_be_released(self, staged: StagedImage) -> bool:
        """Whether a person could release an image: it was not withdrawn, and its build is complete and of a commit."""
        if staged.digest in self._history.withdrawn_of(staged.image):
            return False
        with suppress(BadInput):
            build = self._backends.artifacts.build(_build_of(staged)).read_build()
            return build is not None and build.status == "succeeded" and not why_unreleasable(build.commit)
        return False

    @cached_property
    def _history(self) -> History:
        return History(Ledger(self._backends.artifacts).records())

    def _scanned(self, version: _Version) -> tuple[Scan, ...]:
        contents = version.image.settings.contains
        return self._scanned_at(version.registry, version.reference, version.image.platforms, contents)

    def _scanned_at(
        self, registry: Registry, reference: Reference, platforms: Sequence[str], contents: Sequence[Content] = ()
    ) -> tuple[Scan, ...]:
        if reference.digest not in self._scans:
            images = _for_platforms(images_of(registry, reference), platforms)
            self._scans[reference.digest] = of_all_platforms(
                each
                for image in images
                for each in scan(read_inventory(registry, image, self._records, contents), image, self._settings)
            )
        return self._scans[reference.digest]

    def _packages_of(self, version: _Version, base: BaseImage) -> set[tuple[str, str, str]]:
        """The packages of what an image was built on: type, name and version; none where it is gone."""
        key = (base.digest, version.image.platforms)
        if key not in self._packages:
            self._packages[key] = set()
            with suppress(BadInput):
                self._packages[key] = self._read_packages(base, version.image.platforms)
        return self._packages[key]

    def _read_packages(self, base: BaseImage, platforms: Sequence[str]) -> set[tuple[str, str, str]]:
        found = find_base(base, self._source.catalog, self._backends, self._settings)
        if found is None:
            return set()
        return {
            (package.type, package.name, package.version)
            for image in _for_platforms(images_of(found.registry, found.reference), platforms)
            for package in read_inventory(found.registry, image, self._records).packages
        }


def _build_of(staged: StagedImage) -> str:
    """The build that has an image under its tag: the one that made it, or the last one that has reused it."""
    split = split_staging_tag(Reference.parse(staged.reference).tag)
    return split[1] if split else staged.built_in


def _remedy_of(before: ProductionScan | None, digest: str) -> dict[str, Any]:
    """What an earlier scan of the same image has named, for as long as nobody knows better."""
    if before is None or before.digest != digest:
        return {}
    return {"rebuilds": before.rebuilds, "waits_for": before.waits_for}


def _for_platforms(images: Mapping[str, Reference], platforms: Sequence[str]) -> list[Reference]:
    """The images for some platforms; all where none is for any of them."""
    return [image for platform, image in images.items() if platform in platforms] or [*images.values()]


def _is_renewed(image: Image, package: str) -> bool:
    """Whether an instruction installs the newest version of a package that a base has already."""
    instructions = [
        line for line in _CONTINUED.sub(" ", image.dockerfile.text).splitlines() if re.match(r"\s*RUN\b", line, re.I)
    ]
    named = re.compile(rf"{_APT}.*(?<![\w.+-]){re.escape(package)}(?![\w.+-])")
    return any(_UPGRADES.search(line) or named.search(line) for line in instructions)


def _still_in(scans: Sequence[Scan], missing: Sequence[Vulnerability]) -> list[Vulnerability]:
    """What another version lacks as well; what a source has found that could not look into that one counts."""
    found = set(map(_key, merged(tuple(scans))))
    blind = {scan.source for scan in scans if not scan.has_looked}
    return [each for each in missing if _key(each) in found or blind.intersection(each.source.split(", "))]


def _key(vulnerability: Vulnerability) -> tuple[str, str, str]:
    return vulnerability.id, vulnerability.type, vulnerability.package
