"""Changelogs of Debian's packages.

Source: https://www.debian.org/doc/debian-policy/ch-source.html#debian-changelog-debian-changelog
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

_HEADING = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]* \((?P<version>[^() \t]+)\)(?P<suites>(?: +[A-Za-z0-9+.-]+)*) *;")
_TRAILER = re.compile(r" -- .*>  ?(?P<time>\S.*)")
_CVE = re.compile(r"CVE-\d{4}-\d{4,19}")


@dataclass(frozen=True, slots=True)
class ChangelogEntry:
    """What a changelog says of one version.

    Attributes:
        version: The version of the source package.
        suites: The suites that it was made for, such as bookworm-security.
        day: The day that it is signed with, in the time zone of who signed it; None if it has none.
        cves: CVE identifiers that its changes name, in their order.
    """

    version: str
    suites: tuple[str, ...]
    day: date | None
    cves: tuple[str, ...]


def read_changelog(text: str) -> Iterator[ChangelogEntry]:
    """The entries of a changelog, the newest first.

    Changelogs are decades old and written by hand: what is no heading and no trailer counts as a change, and an
    entry without a trailer has no day.
    """
    version, suites, cves, day = "", (), {}, None  # type: str, tuple[str, ...], dict[str, None], date | None
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            if version:
                yield ChangelogEntry(version, suites, day, tuple(cves))
            version, suites, cves, day = heading["version"], tuple(heading["suites"].split()), {}, None
        elif trailer := _TRAILER.fullmatch(line):
            day = _day(trailer["time"])
        else:
            cves.update(dict.fromkeys(_CVE.findall(line)))
    if version:
        yield ChangelogEntry(version, suites, day, tuple(cves))


def _day(text: str) -> date | None:
    try:
        return parsedate_to_datetime(text).date()
    except (TypeError, ValueError):
        return None
