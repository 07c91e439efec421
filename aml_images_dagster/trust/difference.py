"""What changed between two images: packages, and changes of what users build upon."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from aml_images_dagster.trust.inventory import Inventory
    from aml_images_dagster.trust.packages import Package

_CALENDAR = 1900
"""A first number from here on is a year, which says nothing of what is compatible."""


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A package that is not the same in two images.

    Attributes:
        type: Type of its package URL.
        name: Its name.
        source: Its source package; the name where there is none.
        before: Its versions in the older image; empty when it was not there.
        after: Its versions in the newer image; empty when it is gone.
    """

    type: str
    name: str
    source: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MajorChange:
    """A change that may break what users have built upon an image.

    Attributes:
        component: What has changed: Python, Open MPI, the distribution, a package that the image's requirements name.
        before: Its version in the older image.
        after: Its version in the newer image; empty when it is gone.
    """

    component: str
    before: str
    after: str

    def __str__(self) -> str:
        """`Python 3.10 → 3.12`."""
        return (
            f"{self.component} {self.before} → {self.after}"
            if self.after
            else f"{self.component} {self.before} is gone"
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed between two images.

    Attributes:
        packages: Every package that is not the same, sorted.
        major: What may break users.
    """

    packages: tuple[PackageChange, ...]
    major: tuple[MajorChange, ...]


def difference(older: Inventory, newer: Inventory, required: Collection[str] = ()) -> Difference:
    """Compare what two images hold.

    Args:
        older: The image that was.
        newer: The image that is to be.
        required: Names of Python packages that the image's own requirements name.
    """
    before, after = _versions(older.packages), _versions(newer.packages)
    sources = {(each.type, each.name): each.source or each.name for each in (*older.packages, *newer.packages)}
    changed = (key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    packages = tuple(
        PackageChange(*key, sources[key], before.get(key, ()), after.get(key, ())) for key in sorted(changed)
    )
    return Difference(packages, tuple(_major(older, newer, required)))


def _versions(packages: Iterable[Package]) -> dict[tuple[str, str], tuple[str, ...]]:
    """A package may be there several times, as that of the distribution and in virtual environments."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for package in packages:
        found[package.type, package.name].add(package.version)
    return {key: tuple(sorted(versions)) for key, versions in found.items()}


def _major(older: Inventory, newer: Inventory, required: Collection[str]) -> Iterable[MajorChange]:
    components = _components(newer)
    for component, before in _components(older).items():
        after = components[component]
        if before and before != after:
            yield MajorChange(component, before, after)
    was, now = _python(older), _python(newer)
    for name in sorted({_normalized(each) for each in required} & was.keys()):
        if name not in now:
            yield MajorChange(name, was[name], "")
        elif _is_major(was[name], now[name]):
            yield MajorChange(name, was[name], now[name])


def _python(inventory: Inventory) -> dict[str, str]:
    """Python packages, by normalized name; of several versions the newest, as a rule that of the environment in use."""
    found: dict[str, str] = {}
    for package in inventory.packages:
        name = _normalized(package.name)
        if package.type == "pypi" and (name not in found or _numbers(package.version) > _numbers(found[name])):
            found[name] = package.version
    return found


def _normalized(name: str) -> str:
    """Source: https://packaging.python.org/en/latest/specifications/name-normalization/."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_major(before: str, after: str) -> bool:
    """Whether the first number differs; of versions 0.x the second counts, and years do not."""
    old, new = _numbers(before), _numbers(after)
    if not old or not new or (old[0] >= _CALENDAR and new[0] >= _CALENDAR):
        return False
    length = 1 if old[0] or new[0] else 2
    return old[:length] != new[:length]


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, without the epoch of a distribution."""
    leading = re.match(r"(?:\d+[:!])?v?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, leading[1].split("."))) if leading else ()


def _components(inventory: Inventory) -> dict[str, str]:
    """What users compile against or write for, to as many numbers of its version as matter; empty if it is missing."""
    return {"distribution": _distribution(inventory)} | {
        name: _versions_of(pattern, parts, inventory) for name, (pattern, parts, _) in _COMPONENTS.items()
    }


def capabilities(inventory: Inventory) -> dict[str, str]:
    """The components that users choose an image for, with versions for people: `{"Python": "3.11.2"}`."""
    found = {
        name: _versions_of(pattern, shown, inventory) for name, (pattern, _, shown) in _COMPONENTS.items() if shown
    }
    return {name: version for name, version in found.items() if version}


def _versions_of(pattern: str, parts: int, inventory: Inventory) -> str:
    """The versions, to a number of parts, of the packages whose type and name fit a pattern."""
    numbers = {
        _numbers(package.version)[:parts]
        for package in inventory.packages
        if re.fullmatch(pattern, f"{package.type}/{package.name}", re.IGNORECASE)
    }
    return ", ".join(".".join(map(str, each)) for each in sorted(numbers - {()}))


def _distribution(inventory: Inventory) -> str:
    values = inventory.distribution
    return " ".join(filter(None, (values.get("ID", ""), values.get("VERSION_ID", ""))))


_COMPONENTS: dict[str, tuple[str, int, int]] = {
    # Debian has a package for each minor version, and its libraries stay when a version goes.
    "Python": (r"deb/python3\.\d+-minimal|(?:apk|rpm)/python3|conda/python", 2, 3),
    "glibc": (r"deb/libc6|rpm/glibc", 2, 0),
    "Open MPI": (r"deb/openmpi-bin|(?:conda|rpm|generic)/open[- ]?mpi", 2, 3),
    "Intel MPI": (r"pypi/impi[-_]rt|deb/intel-oneapi-mpi|conda/impi_rt|generic/intel[- ]?mpi", 1, 2),
    "CUDA": (r"(?:deb|rpm)/cuda-cudart-\d+-\d+|conda/cuda-cudart|generic/cuda", 1, 2),
}
"""The packages that a component is known by; how many numbers of its version matter to what is built upon it, and how
many are shown as what an image is capable of: none for what every image has."""
