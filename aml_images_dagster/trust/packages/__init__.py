"""Packages: which files of an image list them, and what they say.

One module for each packaging system. A reader gets the content of a file and gives a `Document`; what the documents of
an image say together is put together in `inventory.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.trust.packages import apk, conda, deb, pypi, rpm
from aml_images_dagster.trust.packages.package import (
    DISTRIBUTIONS,
    TEXT,
    Document,
    Package,
    UnreadableDocument,
    read_os_release,
    read_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_MEBIBYTE = 2**20
_RPM = r"(?:var/lib/rpm|usr/lib/sysimage/rpm|usr/share/rpm)"
RPM_DATABASE = re.compile(rf"{_RPM}/rpmdb\.sqlite(?P<log>-wal)?")
"""The database of RPM, and its log of what has not been written into it yet. It is read as a file; see `rpm.py`."""
PYTHON_PACKAGES = r"(?:site|dist)-packages"


@dataclass(frozen=True, slots=True)
class Reader:
    """What reads one kind of document.

    Attributes:
        paths: Paths from the root of the image, without a slash in front.
        longest: Bytes of a file that is read.
        read: The reader.
        has_content: Whether the reader wants the content; else that the file is there says all.
    """

    paths: str
    longest: int
    read: Callable[[bytes], Document]
    has_content: bool = True


_READERS = {
    "os_release": Reader(r"(?:usr/lib|etc)/os-release", _MEBIBYTE, read_os_release),
    "dpkg_sums": Reader(r"var/lib/dpkg/status\.d/[^/]+\.md5sums", 8 * _MEBIBYTE, deb.read_sums),
    "dpkg_status": Reader(r"var/lib/dpkg/status(?:\.d/[^/]+)?", 32 * _MEBIBYTE, deb.read_status),
    "dpkg_list": Reader(r"var/lib/dpkg/info/[^/]+\.list", 8 * _MEBIBYTE, deb.read_list),
    "copyright": Reader(r"usr/share/doc/[^/]+/copyright", 4 * _MEBIBYTE, deb.read_copyright),
    "common_licence": Reader(r"usr/share/common-licenses/[^/]+", _MEBIBYTE, read_text),
    "rpm_licence": Reader(r"usr/share/licenses/[^/]+/.+", _MEBIBYTE, read_text),
    "apk": Reader(r"(?:usr/)?lib/apk/db/installed", 32 * _MEBIBYTE, apk.read_installed),
    "rpm_other": Reader(rf"{_RPM}/Packages(?:\.db)?", 2**40, rpm.refuse_database, has_content=False),
    "python": Reader(
        r"(?:.*/)?(?:[^/]+\.dist-info/METADATA|[^/]+\.egg-info(?:/PKG-INFO)?"
        rf"|{PYTHON_PACKAGES}/[^/]+\.egg/EGG-INFO/PKG-INFO)",
        4 * _MEBIBYTE,
        pypi.read_metadata,
    ),
    "python_licence": Reader(
        r"(?:.*/)?[^/]+\.dist-info/(?:licenses/.+|(?:LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*)", _MEBIBYTE, read_text
    ),
    "python_record": Reader(r"(?:.*/)?[^/]+\.dist-info/RECORD", 16 * _MEBIBYTE, pypi.read_record),
    "python_files": Reader(r"(?:.*/)?[^/]+\.egg-info/installed-files\.txt", 16 * _MEBIBYTE, pypi.read_installed_files),
    "conda": Reader(r"(?:.*/)?conda-meta/[^/]+\.json", 12 * _MEBIBYTE, conda.read_meta),
}
_PATHS = re.compile("|".join(f"(?P<{name}>{reader.paths})" for name, reader in _READERS.items()), re.DOTALL)


def reader_of(path: str) -> Reader | None:
    """What reads a file; None when it does not list packages."""
    found = _PATHS.fullmatch(path)
    return _READERS[found.lastgroup] if found and found.lastgroup else None


__all__ = [
    "DISTRIBUTIONS",
    "RPM_DATABASE",
    "TEXT",
    "Document",
    "Package",
    "Reader",
    "UnreadableDocument",
    "reader_of",
    "rpm",
]
