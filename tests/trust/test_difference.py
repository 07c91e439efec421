"""What changed between two images."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.trust.difference import difference
from aml_images_dagster.trust.inventory import Inventory
from aml_images_dagster.trust.packages import Package


def inventory(*packages: Package, version: str = "12") -> Inventory:
    """An inventory of some packages of Debian."""
    return Inventory(
        digest=f"sha256:{'0' * 64}",
        platform="linux/amd64",
        created=datetime(2026, 11, 26, tzinfo=UTC),
        distribution={"ID": "debian", "VERSION_ID": version},
        packages=packages,
        files=1,
        unowned=(),
        unowned_files=0,
        unread=(),
    )


def _pypi(name: str, version: str) -> Package:
    return Package("pypi", name, version)


def test_packages_that_came_went_and_changed() -> None:
    older = inventory(Package("deb", "libssl3", "3.0.15-1", source="openssl"), _pypi("six", "1.16"), _pypi("a", "1"))
    newer = inventory(Package("deb", "libssl3", "3.0.17-1", source="openssl"), _pypi("pandas", "2.3"), _pypi("a", "1"))

    changed = difference(older, newer).packages

    assert [(each.name, each.source, each.before, each.after) for each in changed] == [
        ("libssl3", "openssl", ("3.0.15-1",), ("3.0.17-1",)),
        ("pandas", "pandas", (), ("2.3",)),
        ("six", "six", ("1.16",), ()),
    ]


def test_a_package_that_is_there_twice_has_two_versions() -> None:
    older = inventory(_pypi("setuptools", "66.1.1"), _pypi("setuptools", "80.9"))
    newer = inventory(_pypi("setuptools", "66.1.1"), _pypi("setuptools", "80.10"))

    (changed,) = difference(older, newer).packages

    assert changed.before == ("66.1.1", "80.9")
    assert changed.after == ("66.1.1", "80.10")


def test_another_minor_version_of_python_is_major_although_its_package_has_another_name() -> None:
    older = inventory(Package("deb", "python3.9-minimal", "3.9.2-1"))
    newer = inventory(Package("deb", "python3.11-minimal", "3.11.2-6"))

    assert list(map(str, difference(older, newer).major)) == ["Python 3.9 → 3.11"]


@pytest.mark.parametrize(
    ("older", "newer", "said"),
    [
        (Package("conda", "python", "3.8.18"), Package("conda", "python", "3.10.13"), "Python 3.8 → 3.10"),
        (Package("deb", "openmpi-bin", "4.1.4-3"), Package("deb", "openmpi-bin", "5.0.6-1"), "Open MPI 4.1 → 5.0"),
        (Package("generic", "openmpi", "4.1.5"), Package("generic", "openmpi", "5.0.1"), "Open MPI 4.1 → 5.0"),
        (Package("deb", "libc6", "2.36-9"), Package("deb", "libc6", "2.41-12"), "glibc 2.36 → 2.41"),
        (Package("pypi", "impi-rt", "2021.15"), Package("pypi", "impi-rt", "2022.0"), "Intel MPI 2021 → 2022"),
        (
            Package("deb", "cuda-cudart-12-6", "12.6.77-1"),
            Package("deb", "cuda-cudart-13-0", "13.0.48-1"),
            "CUDA 12 → 13",
        ),
    ],
)
def test_what_users_compile_against(older: Package, newer: Package, said: str) -> None:
    assert list(map(str, difference(inventory(older), inventory(newer)).major)) == [said]


def test_another_release_of_the_distribution_is_major() -> None:
    changed = difference(inventory(version="12"), inventory(version="13")).major

    assert list(map(str, changed)) == ["distribution debian 12 → debian 13"]


@pytest.mark.parametrize(
    ("before", "after", "is_major"),
    [
        ("2.3.3", "3.1.1", True),
        ("2.3.3", "2.4.0", False),
        ("0.24.1", "0.25.0", True),
        ("0.24.1", "0.24.2", False),
        ("0.9", "1.0", True),
        ("2025.2", "2026.6", False),  # calendar versions
        ("2.9.0.post0", "2.9.1", False),
        ("1!2.0", "1!3.0", True),
    ],
)
def test_majors_of_what_the_requirements_name(before: str, after: str, is_major: bool) -> None:
    older, newer = inventory(_pypi("Scikit_Learn", before)), inventory(_pypi("scikit-learn", after))

    assert bool(difference(older, newer, ["scikit.learn"]).major) is is_major
    assert not difference(older, newer).major


def test_a_required_package_that_is_gone_is_major() -> None:
    changed = difference(inventory(_pypi("six", "1.16")), inventory(), ["six"]).major

    assert list(map(str, changed)) == ["six 1.16 is gone"]


_PACKAGES = st.lists(
    st.builds(
        Package,
        st.sampled_from(["deb", "pypi", "conda"]),
        st.sampled_from(["python", "libc6", "a", "b"]),
        st.sampled_from(["1.0", "2.0", "1:3", "x", ""]),
    ),
    max_size=6,
)


@given(_PACKAGES, _PACKAGES)
def test_the_difference_makes_the_newer_set_of_the_older_one(older: list[Package], newer: list[Package]) -> None:
    versions = {(each.type, each.name, each.version) for each in older}

    for change in difference(inventory(*older), inventory(*newer), ["a"]).packages:
        versions -= {(change.type, change.name, version) for version in change.before}
        versions |= {(change.type, change.name, version) for version in change.after}

    assert versions == {(each.type, each.name, each.version) for each in newer}
    same = difference(inventory(*older), inventory(*older), ["a"])
    assert (same.packages, same.major) == ((), ())
