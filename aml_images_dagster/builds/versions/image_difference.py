"""What changed between two versions of an image: packages, vulnerabilities, layers, bases, commits, the Dockerfile."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.requirements import required_packages
from aml_images_dagster.catalog.tree import CommitTree
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.oci import read_manifest
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.text import counted, printable, printable_line, size_in_words
from aml_images_dagster.trust.difference import MajorChange, PackageChange, difference
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from aml_images_dagster.vulnerabilities.scanning import of_all_platforms, scan
from aml_images_dagster.vulnerabilities.vulnerability import VulnerabilityChanges, changes_of, counted_vulnerabilities

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic import TypeAdapter

    from aml_images_dagster.builds.records import StagedImage
    from aml_images_dagster.builds.versions.image_versions import ImageVersion
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.image_file import Content
    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.vulnerabilities.vulnerability import Scan

_PINNED = re.compile(r"\S+@(sha256:[0-9a-f]{64})")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class LayerChange:
    """A layer of the newer image.

    Attributes:
        digest: Its digest.
        size_bytes: Compressed size.
        created_by: The instruction that made it, as the image's history says; empty when it does not.
        is_new: Whether the older image lacks it: clients that have that one pull it.
    """

    digest: str
    size_bytes: int
    created_by: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class PlatformDifference:
    """What changed in the image for one platform.

    Attributes:
        platform: E.g. `linux/amd64`.
        packages: Every package that is not the same, sorted.
        layers: The layers of the newer image, from the base up.
        before_bytes: Compressed size of the older image.
        after_bytes: Compressed size of the newer image.
    """

    platform: str
    packages: tuple[PackageChange, ...]
    layers: tuple[LayerChange, ...]
    before_bytes: int
    after_bytes: int

    @property
    def new_bytes(self) -> int:
        """Compressed size of what a client pulls that has the older image."""
        return sum(layer.size_bytes for layer in self.layers if layer.is_new)


@dataclass(frozen=True, slots=True)
class BaseChange:
    """A base that is not the same.

    Attributes:
        reference: As the Dockerfile names it.
        before: Its digest in the older image; empty when it was not named.
        after: Its digest in the newer image; empty when it is not named any more.
    """

    reference: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ImageDifference:
    """What changed between two versions of an image.

    Attributes:
        image: `<family>/<name>`.
        older: Name of the version that was.
        newer: Name of the version that is to be.
        older_digest: Its digest.
        newer_digest: Its digest.
        major: What may break users, of all platforms.
        platforms: Each platform that both have.
        bases: Bases that are not the same, where both builds are known.
        commits: Commits between them that changed the folder, or one of an image that it is FROM; newest first.
        dockerfile: Unified diff of the Dockerfiles that were built, bases by their names, where both builds are known;
            else empty.
        remarks: What is not known, and why.
        vulnerabilities: What became of vulnerabilities; None where nobody was asked.
    """

    image: str
    older: str
    newer: str
    older_digest: str
    newer_digest: str
    major: tuple[MajorChange, ...]
    platforms: tuple[PlatformDifference, ...]
    bases: tuple[BaseChange, ...]
    commits: tuple[git.Commit, ...]
    dockerfile: str
    remarks: tuple[str, ...]
    vulnerabilities: VulnerabilityChanges | None = None

    def document(self) -> dict[str, Any]:
        """The difference for programs."""
        document: dict[str, Any] = _as_json().dump_python(self, mode="json")
        texts = map(str, self.major)
        return document | {"major": [{"text": next(texts), **each} for each in document["major"]]}


@cache
def _as_json() -> TypeAdapter[ImageDifference]:
    from pydantic import TypeAdapter

    return TypeAdapter(ImageDifference)


@dataclass(frozen=True, slots=True)
class PackageRow:
    """Packages of one source whose versions changed alike.

    Attributes:
        name: Name of the package, or of the source package of Debian.
        packages: The packages that it stands for.
        before: The version that was; empty for what was added.
        after: The version that is; empty for what was removed.
    """

    name: str
    packages: tuple[str, ...]
    before: str
    after: str


def package_rows(changes: Iterable[PackageChange]) -> dict[str, list[PackageRow]]:
    """Changes of packages for people: by type, those of one source package of Debian together."""
    found: dict[str, dict[tuple[str, str, str], list[str]]] = {}
    for change in changes:
        name = change.source if change.type == "deb" else change.name
        versions = (", ".join(change.before), ", ".join(change.after))
        found.setdefault(change.type, {}).setdefault((name, *versions), []).append(change.name)
    return {
        kind: [
            PackageRow(name, tuple(packages), before, after) for (name, before, after), packages in sorted(rows.items())
        ]
        for kind, rows in found.items()
    }


def vulnerabilities_in_words(found: VulnerabilityChanges) -> str:
    """How many vulnerabilities are fixed and new, and who says so: `vulnerabilities: 3 fixed, none new (updates)`.

    A source that has not looked is named with the reason: it says nothing.
    """
    missing = [f"{who}: {why}" for who, why in found.missing]
    if not found.compared:
        return "; ".join(("vulnerabilities: not known", *(missing or ["nobody was asked"])))
    fixed, new = map(counted_vulnerabilities, (found.fixed, found.new))
    said = "; ".join((", ".join(found.compared), *missing))
    return f"vulnerabilities: {fixed} fixed, {new} new ({said})"


def summary(difference: ImageDifference) -> str:
    """How much changed, in a line, e.g. `packages: 2 changed, 1 added; 12.1 MB of new layers`."""
    said = []
    for platform in difference.platforms:
        kinds = Counter(
            "changed" if each.before and each.after else "added" if each.after else "removed"
            for each in platform.packages
        )
        counts = [f"{kinds[kind]} {kind}" for kind in ("changed", "added", "removed") if kinds[kind]]
        packages = f"packages: {', '.join(counts)}" if counts else "the same packages"
        text = f"{packages}; {size_in_words(platform.new_bytes)} of new layers"
        said.append(f"{text} ({platform.platform})" if len(difference.platforms) > 1 else text)
    if difference.vulnerabilities:
        said.append(vulnerabilities_in_words(difference.vulnerabilities))
    return "; ".join(said) or "no platform that both have"


class ImageComparison:
    """Compares versions of images. What several images share is read once.

    Args:
        settings: The repository, who is asked for vulnerabilities, and where what was read of layers is kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._records = LayerRecords(settings.layer_records)
        self._catalogs: dict[str, tuple[CommitTree, Catalog] | None] = {}

    def compare(
        self, image: str, older: ImageVersion, newer: ImageVersion, *, scanned: bool = False
    ) -> ImageDifference:
        """What changed.

        Args:
            image: `<family>/<name>`.
            older: The version that was.
            newer: The version that is to be.
            scanned: Also ask the sources of vulnerabilities about both, which takes them seconds to minutes. One that
                cannot look is part of the result.

        Raises:
            BadInput: A version cannot be read.
            Unreachable: A registry does not answer, or serves something else than it promised.
        """
        remarks: list[str] = []
        folders = {each.commit: self._folder(image, each, remarks) for each in (older, newer)}
        required = {name for tree, folder in filter(None, folders.values()) for name in required_packages(tree, folder)}
        before = images_of(older.registry, older.reference)
        after = images_of(newer.registry, newer.reference)
        major: dict[MajorChange, None] = {}
        platforms = []
        scans: tuple[list[Scan], list[Scan]] = ([], [])
        for platform in sorted(before.keys() | after.keys()):
            if platform not in after:
                major[MajorChange("platform", platform, "")] = None
            elif platform not in before:
                remarks.append(f"platform {platform} is new")
        for platform in (each for each in after if each in before):
            was, now = (
                read_inventory(version.registry, one[platform], self._records, _contents(folders[version.commit]))
                for version, one in ((older, before), (newer, after))
            )
            found = difference(was, now, required)
            major |= dict.fromkeys(found.major)
            platforms.append(_platform(platform, found.packages, older, before[platform], newer, after[platform]))
            remarks += [f"not read: {text}" for each in (was, now) for text in each.unread]
            if scanned:
                for found_in, inventory, one in zip(scans, (was, now), (before, after), strict=True):
                    found_in += scan(inventory, one[platform], self._settings)
        return ImageDifference(
            image=image,
            older=older.name,
            newer=newer.name,
            older_digest=older.digest,
            newer_digest=newer.digest,
            major=tuple(major),
            platforms=tuple(platforms),
            bases=tuple(_bases(older, newer)),
            commits=tuple(self._commits(image, older, newer, remarks)),
            dockerfile=_dockerfile(older, newer),
            remarks=tuple(dict.fromkeys(remarks)),
            vulnerabilities=changes_of(*map(of_all_platforms, scans)) if scanned else None,
        )

    def _folder(self, image: str, version: ImageVersion, remarks: list[str]) -> tuple[CommitTree, Image] | None:
        """The folder that a version was built from, as its commit has it; None where that is not known."""
        found = self._catalog(version.commit)
        if found is None:
            why = f"commit {version.commit[:12]} is not here" if version.commit else "its commit is not known"
            remarks.append(f"{version.name}: {why}, so it is not known which packages its requirements name")
            return None
        tree, catalog = found
        return (tree, catalog.images[image]) if image in catalog.images else None

    def _catalog(self, commit: str) -> tuple[CommitTree, Catalog] | None:
        commit = commit.removesuffix(git.DIRTY)
        if commit not in self._catalogs:
            self._catalogs[commit] = self._load(commit)
        return self._catalogs[commit]

    def _load(self, commit: str) -> tuple[CommitTree, Catalog] | None:
        if not _COMMIT.fullmatch(commit):
            return None
        try:
            tree = CommitTree(self._settings.repo, git.resolve(self._settings.repo, commit))
            return tree, load_catalog(self._settings, tree)
        except BadInput:
            return None

    def _commits(
        self, image: str, older: ImageVersion, newer: ImageVersion, remarks: list[str]
    ) -> Iterable[git.Commit]:
        base, head = (each.commit.removesuffix(git.DIRTY) for each in (older, newer))
        found = self._catalog(head)
        if found is None or self._catalog(base) is None or base == head:
            return
        _, catalog = found
        ids = catalog.with_ancestors([image]) if image in catalog.images else set()
        folders = sorted({catalog.images[each].path for each in ids})
        if not folders:
            return
        lost = git.log(self._settings.repo, head, base, folders)
        if lost:
            commits = counted(len(lost), "commit")
            remarks.append(f"{newer.name} lacks {commits} of {older.name}: it is of another branch, or older")
        yield from (
            git.Commit(each.name, each.date, printable_line(each.subject))
            for each in git.log(self._settings.repo, base, head, folders)
        )


def _contents(folder: tuple[CommitTree, Image] | None) -> tuple[Content, ...]:
    return tuple(folder[1].settings.contains) if folder else ()


def _platform(
    platform: str,
    packages: tuple[PackageChange, ...],
    older: ImageVersion,
    before: Reference,
    newer: ImageVersion,
    after: Reference,
) -> PlatformDifference:
    was, now = _layers(older.registry, before), _layers(newer.registry, after)
    made_by = _history(newer.registry.config(after))
    named = made_by if len(made_by) == len(now) else [""] * len(now)
    known = {layer["digest"] for layer in was}
    return PlatformDifference(
        platform=platform,
        packages=packages,
        layers=tuple(
            LayerChange(layer["digest"], layer["size"], instruction, layer["digest"] not in known)
            for layer, instruction in zip(now, named, strict=True)
        ),
        before_bytes=older.registry.size_bytes(before),
        after_bytes=newer.registry.size_bytes(after),
    )


def _layers(registry: Registry, image: Reference) -> list[dict[str, Any]]:
    manifest = registry.manifest(image)
    layers: list[dict[str, Any]] = read_manifest(manifest)["layers"] if manifest else []
    return layers


def _history(config: Mapping[str, Any]) -> list[str]:
    """What made each layer. Source: https://github.com/opencontainers/image-spec/blob/main/config.md, "history"."""
    history = config.get("history")
    entries = history if isinstance(history, list) else []
    return [
        printable_line(" ".join(str(entry.get("created_by", "")).split()))
        for entry in entries
        if isinstance(entry, dict) and not entry.get("empty_layer")
    ]


def _bases(older: ImageVersion, newer: ImageVersion) -> Iterator[BaseChange]:
    if older.staged is None or newer.staged is None:
        return
    before = {base.reference: base.digest for base in older.staged.bases}
    after = {base.reference: base.digest for base in newer.staged.bases}
    for reference in sorted(before.keys() | after.keys()):
        if before.get(reference) != after.get(reference):
            yield BaseChange(reference, before.get(reference, ""), after.get(reference, ""))


def _with_names(staged: StagedImage) -> str:
    """The Dockerfile with bases as it names them: a pin says where the bytes come from, and may be in any registry."""
    names = {base.digest: base.reference for base in staged.bases}
    return _PINNED.sub(lambda pin: names.get(pin[1], pin[0]), staged.dockerfile)


def _dockerfile(older: ImageVersion, newer: ImageVersion) -> str:
    if older.staged is None or newer.staged is None:
        return ""
    was, now = (printable(_with_names(version)).splitlines() for version in (older.staged, newer.staged))
    names = (f"Dockerfile of {older.name}", f"Dockerfile of {newer.name}")
    return "\n".join(difflib.unified_diff(was, now, *names, lineterm=""))
