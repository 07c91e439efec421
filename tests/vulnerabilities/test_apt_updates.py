"""Security updates, asked of the real apt and a real mirror of Debian."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.trust.packages import Package
from aml_images_dagster.vulnerabilities.apt_updates import AptUpdates, Distribution
from tests.debian_archive import DebianArchive

if TYPE_CHECKING:
    from pathlib import Path

BOOKWORM = Distribution("debian", "bookworm")


def _openssl(version: str) -> list[Package]:
    return [Package("deb", name, version, "amd64", "openssl") for name in ("openssl", "libssl3")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps apt's lists for the tests of this module."""
    return tmp_path_factory.mktemp("apt")


@pytest.mark.e2e
def test_an_old_openssl_lacks_fixes_with_their_cves_and_days(folder: Path) -> None:
    scan = AptUpdates(folder, {}).scan(BOOKWORM, _openssl("3.0.11-1~deb12u1"))

    assert scan.has_looked, scan.detail
    found = {(each.package, each.id): each for each in scan.vulnerabilities or ()}
    # Source: https://security-tracker.debian.org/tracker/CVE-2023-5363, fixed in 3.0.11-1~deb12u2.
    fixed = found["libssl3", "CVE-2023-5363"]
    assert fixed.fixed_in == "3.0.11-1~deb12u2"
    assert fixed.fixed_since is not None
    assert fixed.fixed_since.isoformat() == "2023-10-23"
    assert fixed.is_security_update
    assert ("openssl", "CVE-2023-5363") in found


@pytest.mark.e2e
def test_a_version_that_nothing_is_newer_than_lacks_nothing(folder: Path) -> None:
    scan = AptUpdates(folder, {}).scan(BOOKWORM, _openssl("9:1"))

    assert scan.vulnerabilities == ()


@pytest.mark.e2e
def test_a_package_that_no_suite_offers_says_nothing(folder: Path) -> None:
    own = Package("deb", "our-own", "1", "all")

    assert AptUpdates(folder, {}).scan(BOOKWORM, [own]).vulnerabilities == ()


@pytest.mark.e2e
def test_what_is_no_name_or_version_is_left_out(folder: Path) -> None:
    hostile = [
        Package("deb", "-oDir::Etc=/x", "1", "amd64", "x"),
        Package("deb", "libssl3", "1\nPackage: other", "amd64", "openssl"),
    ]

    assert AptUpdates(folder, {}).scan(BOOKWORM, hostile).vulnerabilities == ()


def test_a_mirror_that_does_not_answer_is_not_a_clean_image(folder: Path) -> None:
    mirrors = {"debian": "http://127.0.0.1:1/debian", "debian-security": "http://127.0.0.1:1/security"}

    scan = AptUpdates(folder / "away", mirrors).scan(BOOKWORM, _openssl("3.0.11-1~deb12u1"))

    assert (scan.has_looked, scan.failed) == (False, True)
    assert "apt-get failed" in scan.detail


@pytest.mark.parametrize(
    ("distribution", "said"),
    [
        (None, "an image without os-release"),
        (Distribution("alpine", ""), "it knows Debian and Ubuntu, not alpine"),
        (Distribution("debian", ""), "os-release names no version"),
        (Distribution("debian", "../x y"), "os-release names no version"),
    ],
)
def test_what_it_cannot_look_into_it_says(folder: Path, distribution: Distribution | None, said: str) -> None:
    scan = AptUpdates(folder, {}).scan(distribution, [])

    assert (scan.has_looked, scan.failed) == (False, False)
    assert said in scan.detail


def test_a_package_with_another_version_than_its_source_has_the_fixes_of_the_source(tmp_path: Path) -> None:
    """As bsdutils of util-linux."""
    installed = [Package("deb", "bsdutils", "1:2.38-5+b1", "amd64", source="util-linux", source_version="2.38-5")]
    with DebianArchive(tmp_path) as archive:
        archive.publish("bsdutils", "2.38-5", "First.", date(2026, 1, 1), epoch="1:")
        fixed = "2.38-5+deb12u1"
        archive.publish("bsdutils", fixed, "Fix CVE-2026-0001.", date(2026, 11, 6), security=True, epoch="1:")
        scan = AptUpdates(tmp_path / "apt", archive.mirrors, archive.keyring).scan(BOOKWORM, installed)

    assert [(found.id, found.fixed_since) for found in scan.vulnerabilities or ()] == [
        ("CVE-2026-0001", date(2026, 11, 6))
    ]


@pytest.mark.parametrize(("architecture", "mirror"), [("amd64", "ubuntu"), ("arm64", "ubuntu-ports")])
def test_ubuntu_has_most_architectures_in_an_archive_of_their_own(
    tmp_path: Path, architecture: str, mirror: str
) -> None:
    mirrors = {name: f"http://127.0.0.1:1/{name}" for name in ("ubuntu", "ubuntu-ports")}
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    scan = AptUpdates(tmp_path, mirrors, keyring).scan(Distribution("ubuntu", "jammy", architecture), [])
    assert scan.failed
    sources = (tmp_path / f"ubuntu-jammy-{architecture}" / "sources.list").read_text()
    assert {line.split()[2] for line in sources.splitlines()} == {f"http://127.0.0.1:1/{mirror}"}


def test_a_mirror_with_a_key_of_its_own_is_believed_with_its_keyring_alone(tmp_path: Path) -> None:
    installed = [Package("deb", "libdemo1", "1.0-1", "amd64")]
    with DebianArchive(tmp_path) as archive:
        archive.publish("libdemo1", "1.0-1", "First.", date(2026, 1, 1))
        archive.publish("libdemo1", "1.0-1+deb12u1", "Fix CVE-2026-0001.", date(2026, 11, 6), security=True)

        believed = AptUpdates(tmp_path / "apt", archive.mirrors, archive.keyring).scan(BOOKWORM, installed)
        unknown = AptUpdates(tmp_path / "others", archive.mirrors).scan(BOOKWORM, installed)
        missing = AptUpdates(tmp_path / "apt", archive.mirrors, tmp_path / "none").scan(BOOKWORM, installed)

    (found,) = believed.vulnerabilities or ()
    assert (found.id, found.fixed_in, found.fixed_since) == ("CVE-2026-0001", "1.0-1+deb12u1", date(2026, 11, 6))
    assert found.is_security_update
    assert (unknown.has_looked, unknown.failed) == (False, True)
    assert (missing.has_looked, missing.failed) == (False, False)
    assert "no file" in missing.detail
