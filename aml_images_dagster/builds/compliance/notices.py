"""Drift: what an image has, held against the lock that its folder keeps of its notices.

Drift is a component that was added or removed, another licence, and another version of something that the folder itself
pins. Other versions are none: security updates must not stop at a text. What the base brings is no doing of the folder:
its drift is reported, and blocks nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aml_images_dagster.builds.compliance.inventories import of_bases, of_staged
from aml_images_dagster.builds.records import InstalledComponents
from aml_images_dagster.builds.versions.image_lookup import FoundImage, find_image, find_reference, is_reference
from aml_images_dagster.builds.versions.image_versions import builds_of
from aml_images_dagster.catalog.image import NOTICES_FILE, NOTICES_LOCK
from aml_images_dagster.catalog.notices import Component, NoticesLock, head_of, notices_lines, notices_text, read_lock
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.catalog.requirements import pinned_packages
from aml_images_dagster.catalog.validated_file import json_lines
from aml_images_dagster.errors import BadInput, BuildFailed
from aml_images_dagster.licences import all_of
from aml_images_dagster.text import first_of
from aml_images_dagster.trust.inventory import DECLARED, read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from packaging.specifiers import SpecifierSet

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import BaseImage, StagedImage
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree
    from aml_images_dagster.engine.interface import LogLine
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.trust.inventory import Inventory
    from aml_images_dagster.trust.packages import Package

Key = tuple[str, str]
_NAMED = 10
"""Changes that a message names."""


def components_of(
    inventories: Iterable[Inventory], pins: Mapping[str, SpecifierSet], of_base: Collection[Key]
) -> tuple[Component, ...]:
    """The components of an image.

    Args:
        inventories: What it has, on each platform.
        pins: Versions that its folder pins, by the name of the package of Python or conda.
        of_base: Keys of the components that its base has.
    """
    packages: dict[Key, list[Package]] = defaultdict(list)
    for inventory in inventories:
        for package in inventory.packages:
            packages[_key(package)].append(package)
    return tuple(_component(key, several, pins, of_base) for key, several in sorted(packages.items()))


def keys_of(inventories: Iterable[Inventory]) -> frozenset[Key]:
    """The keys of the components of an image."""
    return frozenset(_key(package) for inventory in inventories for package in inventory.packages)


def _key(package: Package) -> Key:
    source = package.source
    if package.type == "rpm" and source:  # openssl-3.3.2-1.azl3.src.rpm: with its version each update were another one
        source = source.removesuffix(".rpm").removesuffix(".src").removesuffix(".nosrc").rsplit("-", 2)[0]
    return package.type, source or package.name


def _component(
    key: Key, packages: list[Package], pins: Mapping[str, SpecifierSet], of_base: Collection[Key]
) -> Component:
    versions = sorted({package.version for package in packages})
    pin = pins.get(key[1]) if key[0] in ("pypi", "conda") else None
    pinned = any(package.licence_origin == DECLARED for package in packages) or pin is not None
    # A package of Python may be there several times, inside of others as well.
    chosen = [version for version in versions if pin is not None and pin.contains(version, prereleases=True)]
    return Component(
        type=key[0],
        name=key[1],
        licence=all_of(package.licence for package in packages),
        version=(chosen or versions)[0] if pinned else "",
        base=not pinned and key in of_base,
    )


@dataclass(frozen=True, slots=True)
class NoticesChange:
    """A component that the notices of a folder do not name as the image has it.

    Attributes:
        what: What has changed.
        component: The component as the image has it; as it was, if it is gone.
        before: Its licence or version in the lock; empty for one that was added.
        after: Its licence or version in the image; empty for one that is gone.
        lock_line: Its line in the lock, counted from 1; for one that was added, that of the component before which it
            belongs.
        notices_line: The same in the text.
    """

    what: Literal["added", "removed", "licence", "version"]
    component: Component
    before: str
    after: str
    lock_line: int
    notices_line: int

    @property
    def said(self) -> str:
        """What has changed, in some words."""
        name = f"{self.component.type} {self.component.name}"
        match self.what:
            case "added":
                return f"{name} was added ({self.after or 'no licence found'})"
            case "removed":
                return f"{name} was removed"
            case _:
                return f"{self.what} of {name}: {self.before or 'none'} → {self.after or 'none'}"

    def __str__(self) -> str:
        """With the lines."""
        return f"{self.said} [{NOTICES_LOCK}:{self.lock_line}, {NOTICES_FILE}:{self.notices_line}]"

    def document(self) -> dict[str, Any]:
        """The change for programs."""
        return {
            "what": self.what,
            "type": self.component.type,
            "name": self.component.name,
            "before": self.before,
            "after": self.after,
            "base": self.component.base,
            "lock_line": self.lock_line,
            "notices_line": self.notices_line,
        }


def drift(tree: Tree, image: Image, found: Iterable[Component]) -> tuple[NoticesChange, ...]:
    """What the lock of a folder and an image do not have in common, in the order of the lock.

    Args:
        tree: The files of the repository.
        image: The image, whose folder keeps a lock.
        found: What the image has.

    Raises:
        BadInput: The lock is wrong.
    """
    lock = read_lock(tree, image) or NoticesLock()
    lines = _Lines(tree, image, lock)
    locked = {component.key: component for component in lock.components}
    installed = {component.key: component for component in found}
    changes = []
    for key in locked.keys() | installed.keys():
        was, now = locked.get(key), installed.get(key)
        if was is None and now is not None:
            changes.append(lines.change("added", now, "", now.licence))
        elif now is None and was is not None:
            changes.append(lines.change("removed", was, was.licence, ""))
        elif was is not None and now is not None:
            if was.licence != now.licence:
                changes.append(lines.change("licence", now, was.licence, now.licence))
            if was.version != now.version:
                changes.append(lines.change("version", now, was.version, now.version))
    return tuple(sorted(changes, key=lambda change: (change.component.place, change.what)))


class _Lines:
    """Where components are in the files of a folder."""

    def __init__(self, tree: Tree, image: Image, lock: NoticesLock) -> None:
        files = tree.files()
        path, text = image.file(NOTICES_LOCK), image.file(NOTICES_FILE)
        self._sorted = sorted(lock.components, key=lambda component: component.place)
        found = json_lines(tree.read(path)) if path in files else None
        self._lock = {
            component.key: (found.line(("components", number)) if found else None) or 1
            for number, component in enumerate(lock.components)
        }
        head = head_of(tree.read(text).decode("utf-8", "replace")) if text in files else ""
        self._notices = notices_lines(head, lock)
        self._after = (max(self._lock.values(), default=1) + 1, notices_text(head, lock).count("\n") + 1)

    def change(
        self, what: Literal["added", "removed", "licence", "version"], component: Component, before: str, after: str
    ) -> NoticesChange:
        """A change with its lines."""
        key = component.key
        if key not in self._lock:
            following = next((each for each in self._sorted if each.place > component.place), None)
            if following is None:  # it comes after the last one
                return NoticesChange(what, component, before, after, *self._after)
            key = following.key
        return NoticesChange(what, component, before, after, self._lock[key], self._notices[key])


@dataclass(frozen=True, slots=True)
class NoticesResult:
    """What a build says of the notices of an image.

    Attributes:
        changes: The drift.
        is_blocked: Whether the build has to fail.
    """

    changes: tuple[NoticesChange, ...]
    is_blocked: bool

    @property
    def found(self) -> str:
        """What was found, in some sentences."""
        if not self.changes:
            return f"the image has what {NOTICES_LOCK} says"
        own = [change for change in self.changes if not change.component.base]
        named = [*map(str, [*own, *(change for change in self.changes if change.component.base)])]
        of_base = len(self.changes) - len(own)
        brought = f" {of_base} of {len(self.changes)} of the base, which block nothing." if of_base else ""
        return f"{first_of(named, _NAMED, '; ')}.{brought}"

    def failure(self, image: str) -> BuildFailed:
        """What the build of an image fails with."""
        return BuildFailed(
            f"the notices do not name what is in it: {self.found}",
            where=image,
            hint=f"`aml-images notices {image} --write` brings {NOTICES_FILE} and {NOTICES_LOCK} up to date; commit "
            "both (docs/trust.md).",
        )


def notices_result(session: BuildSession, staged: StagedImage, log: LogLine) -> NoticesResult | None:
    """Hold a staged image against the lock in the build's source, and record what it has.

    The record outlives the image: `aml-images notices` reads it after a build that drift has stopped.

    Args:
        session: The build.
        staged: The image.
        log: Receives a line where a base cannot be looked into.

    Returns:
        None where the folder keeps no lock.

    Raises:
        BadInput: The lock is wrong, or the image was deleted.
        Unreachable: A registry does not answer.
    """
    image, tree = session.image(staged.image), session.source.tree
    lock = read_lock(tree, image)
    if lock is None:
        return None
    found = _recorded(session, staged) or _installed(session, staged, lock, log)
    changes = drift(tree, image, found)
    session.folder.write_components(
        InstalledComponents(image=staged.image, digest=staged.digest, components=found, drift=tuple(map(str, changes)))
    )
    blocks = session.settings.trust.notices == "block" and not session.pull_request
    return NoticesResult(changes, is_blocked=blocks and any(not change.component.base for change in changes))


def _recorded(session: BuildSession, staged: StagedImage) -> tuple[Component, ...]:
    """What the build has recorded that the image is reused from: a build may reuse a thousand, and read no layer."""
    known = session.backends.artifacts.build(staged.built_in).read_components(staged.image)
    return known.components if known and known.digest == staged.digest else ()


def _installed(session: BuildSession, staged: StagedImage, lock: NoticesLock, log: LogLine) -> tuple[Component, ...]:
    image = session.image(staged.image)
    inventories = of_staged(session, staged).values()
    pins = pinned_packages(session.source.tree, image)
    of_base = {component.key for component in lock.components if component.base}
    found = components_of(inventories, pins, of_base)
    if {component.key for component in found} <= {component.key for component in lock.components}:
        return found
    bases = _from(image, staged.bases)  # now it matters who brings what is new
    known = keys_of(of_bases(bases, session.source.catalog, session.backends, session.settings, log))
    return components_of(inventories, pins, of_base | known)


def _from(image: Image, bases: Iterable[BaseImage]) -> list[BaseImage]:
    """The base that an image is FROM; what COPY --from takes out of others is of the image itself."""
    return [base for base in bases if base.reference == image.dockerfile.base]


@dataclass(frozen=True, slots=True)
class FoundComponents:
    """What an image has, and which image that is.

    Attributes:
        of: The build, or the reference, that was looked at.
        components: What it has.
    """

    of: str
    components: tuple[Component, ...]


def find_components(
    image: Image, source: str, tree: Tree, catalog: Catalog, backends: Backends, settings: Settings, log: LogLine
) -> FoundComponents:
    """What the newest build of an image has, or one that is named.

    A build that has checked its notices has recorded what the image has; that of another is read from its registry.
    Builds of pull requests count only by their name.

    Args:
        image: The image.
        source: A reference, or a build's number; empty for the newest build, else the last release.
        tree: Files of the repository: what they pin counts, where nothing was recorded.
        catalog: The images that are not external.
        backends: Registries and artifacts.
        settings: All settings.
        log: Receives a line for a base that cannot be looked into.

    Raises:
        BadInput: There is no such image, or the lock is wrong.
        Unreachable: A registry does not answer.
    """
    if is_reference(source):
        return _read(image, find_reference(settings, backends, source), source, tree, catalog, backends, settings, log)
    for folder, record, staged in builds_of(image.id, backends):
        if record.build != source if source else record.pull_request:
            continue
        recorded = folder.read_components(image.id)
        if recorded and recorded.digest == staged.digest:
            return FoundComponents(record.build, recorded.components)
        place = Reference(backends.staging.host, image.family, digest=staged.digest)
        if backends.staging.digest(place) is not None:
            found = FoundImage(backends.staging, place, image.id, image.settings.contains, staged.bases)
            return _read(image, found, record.build, tree, catalog, backends, settings, log)
    if source:
        raise BadInput(
            f"no build {source!r} has this image",
            where=image.id,
            hint=f"`aml-images builds --image {image.id}` shows its builds; a reference begins with a registry.",
        )
    found = find_image(settings, backends, image.id)
    return _read(image, found, str(found.reference), tree, catalog, backends, settings, log)


def _read(
    image: Image,
    found: FoundImage,
    of: str,
    tree: Tree,
    catalog: Catalog,
    backends: Backends,
    settings: Settings,
    log: LogLine,
) -> FoundComponents:
    lock, records = read_lock(tree, image) or NoticesLock(), LayerRecords(settings.layer_records)
    inventories = [
        read_inventory(found.registry, each, records, image.settings.contains) for each in found.platforms().values()
    ]
    known = {component.key for component in lock.components if component.base}
    of_base = keys_of(of_bases(_from(image, found.bases), catalog, backends, settings, log)) or known
    return FoundComponents(of, components_of(inventories, pinned_packages(tree, image), of_base))
