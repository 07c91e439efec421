"""Changelogs of Debian's packages: the form that Debian's policy gives them, and real ones."""

from __future__ import annotations

import gzip
import subprocess
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.vulnerabilities.changelog import ChangelogEntry, read_changelog

REAL = """\
openssl (3.0.11-1~deb12u2) bookworm-security; urgency=medium

  * CVE-2023-5363 (Incorrect cipher key and IV length processing), and
    again CVE-2023-5363.
  * Not one: CVE-2023.

 -- Sebastian Andrzej Siewior <sebastian@breakpoint.cc>  Mon, 23 Oct 2023 19:52:22 +0200

openssl (3.0.11-1~deb12u1) bookworm; urgency=medium

  * Import 3.0.11
    - CVE-2023-4807 (POLY1305 MAC) -- on Windows
    - CVE-2023-3817

 -- Sebastian Andrzej Siewior <sebastian@breakpoint.cc>  Mon, 25 Sep 2023 22:01:43 +0200
"""


def test_each_version_has_its_suites_its_day_and_its_cves() -> None:
    assert list(read_changelog(REAL)) == [
        ChangelogEntry("3.0.11-1~deb12u2", ("bookworm-security",), date(2023, 10, 23), ("CVE-2023-5363",)),
        ChangelogEntry("3.0.11-1~deb12u1", ("bookworm",), date(2023, 9, 25), ("CVE-2023-4807", "CVE-2023-3817")),
    ]


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        ("Changes of upstream 1.0\n  * a\n", []),
        ("a (1:2-3) unstable stable;urgency=low\n", [ChangelogEntry("1:2-3", ("unstable", "stable"), None, ())]),
        ("a (1) UNRELEASED; urgency=low\n -- A <a>  no day\n", [ChangelogEntry("1", ("UNRELEASED",), None, ())]),
        ("a (1) x; urgency=low\n -- A <a> Mon, 25 Sep 2023 22:01:43 +0200\n",
         [ChangelogEntry("1", ("x",), date(2023, 9, 25), ())]),
        ("a (1) x; urgency=low\n  * like b (2) x; urgency=low\n", [ChangelogEntry("1", ("x",), None, ())]),
    ],
)  # fmt: skip
def test_what_is_no_heading_and_no_trailer_is_a_change(text: str, entries: list[ChangelogEntry]) -> None:
    assert list(read_changelog(text)) == entries


@given(st.text(alphabet="a1 ()-;<>\n*.:C", max_size=200))
def test_any_text_is_read(text: str) -> None:
    assert all(entry.version for entry in read_changelog(text))


@pytest.mark.e2e
def test_the_changelogs_of_essential_packages_begin_with_the_versions_that_dpkg_has_installed() -> None:
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Essential} ${Package} ${source:Version}\\n"],
        capture_output=True,
        text=True,
        check=True,
    )
    read = 0
    essential = (line.split()[1:] for line in listed.stdout.splitlines() if line.startswith("yes "))
    for package, version in essential:
        path = Path("/usr/share/doc") / package / "changelog.Debian.gz"
        if path.exists():
            text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
            # A changelog of a rebuild for one architecture begins with that.
            newest = next(entry for entry in read_changelog(text) if "+b" not in entry.version)
            assert newest.version == version, package
            assert newest.day is not None, package
            read += 1
    assert read > 10
