"""Packages of Red Hat, Fedora, SUSE and Azure Linux: the database of RPM since 4.16.

Sources: https://rpm.org/docs/4.20.x/manual/format_header.html for headers, https://rpm.org/docs/4.20.x/manual/tags.html
for their tags, and `lib/backend/sqlite.c` of RPM for the tables.
"""

from __future__ import annotations

import posixpath
import sqlite3
import struct
import time
from contextlib import closing
from typing import TYPE_CHECKING

from aml_images_dagster.licences import expression
from aml_images_dagster.trust.packages.package import Document, Package, UnreadableDocument, text_of

if TYPE_CHECKING:
    from pathlib import Path

_NAME, _VERSION, _RELEASE, _EPOCH = 1000, 1001, 1002, 1003
_VENDOR, _LICENCE, _URL, _ARCHITECTURE, _SOURCE = 1011, 1014, 1020, 1022, 1044
_OLD_FILES, _DIR_INDEXES, _BASE_NAMES, _DIR_NAMES = 1027, 1116, 1117, 1118
_INT32, _STRING, _STRING_ARRAY, _I18N = 4, 6, 8, 9
_MOST_PACKAGES = 50_000
_LONGEST_HEADER = 16 * 2**20
_MOST_ENTRIES = 10_000
_SECONDS = 60
_STEPS = 100_000


def read_database(database: Path) -> Document:
    """`rpmdb.sqlite`.

    Args:
        database: A copy of it, with its log beside it where there is one.

    Raises:
        UnreadableDocument: It is damaged, or something else.
    """
    packages, files = [], []
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            ends = time.monotonic() + _SECONDS
            connection.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)
            # A view by this name could be anything, and never end.
            kinds = connection.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchall()
            if kinds != [("table",)]:
                raise UnreadableDocument("no database of RPM")
            rows = connection.execute(
                "SELECT blob FROM Packages WHERE length(blob) <= ? ORDER BY hnum LIMIT ?",
                (_LONGEST_HEADER, _MOST_PACKAGES),
            )
            for (blob,) in rows:
                header = _Header(blob)
                if header.text(_NAME) != "gpg-pubkey":  # the keys that RPM trusts: in the database, and no software
                    packages.append(_package(header))
                    files += header.files()
    except sqlite3.Error as error:
        raise UnreadableDocument(f"not readable as a database: {error}") from error
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise UnreadableDocument(f"a header is damaged: {error}") from error
    return Document("rpm", tuple(packages), tuple(files))


def refuse_database(_content: bytes) -> Document:
    """A database of another kind: that of Berkeley DB before RPM 4.16, or SUSE's ndb.

    Raises:
        UnreadableDocument: In any case.
    """
    raise UnreadableDocument("a database of RPM in a form that is not read (not SQLite): its packages are missing here")


def _package(header: _Header) -> Package:
    name, epoch = header.text(_NAME), header.number(_EPOCH)
    licence = header.text(_LICENCE)
    source = header.text(_SOURCE)
    if not name:
        raise UnreadableDocument("a package without a name")
    return Package(
        "rpm",
        name,
        f"{header.text(_VERSION)}-{header.text(_RELEASE)}",
        architecture=header.text(_ARCHITECTURE),
        source=source if source != "(none)" else "",
        licence=expression(licence),
        licence_origin="package" if licence else "",
        homepage=header.text(_URL),
        supplier=header.text(_VENDOR),
        qualifiers=(("epoch", str(epoch)),) if epoch else (),
    )


class _Header:
    """The tags of one package: counts, an index, and the values.

    Args:
        blob: As the database has it, without the magic of a file.
    """

    def __init__(self, blob: bytes) -> None:
        entries, size = struct.unpack_from(">II", blob)
        if entries > _MOST_ENTRIES or 8 + 16 * entries + size > len(blob):
            raise UnreadableDocument("a header is damaged")
        self._values = blob[8 + 16 * entries :][:size]
        index = (struct.unpack_from(">IIII", blob, 8 + 16 * number) for number in range(entries))
        self._index = {tag: (kind, offset, count) for tag, kind, offset, count in index}

    def text(self, tag: int) -> str:
        """A text; empty when there is none."""
        return next(iter(self._texts(tag, 1)), "")

    def number(self, tag: int) -> int:
        """A number; 0 when there is none."""
        return next(iter(self._numbers(tag, 1)), 0)

    def files(self) -> list[str]:
        """Paths of its files, from the root."""
        old = self._texts(_OLD_FILES)
        if old:
            return [file.lstrip("/") for file in old]
        folders = [folder.lstrip("/") for folder in self._texts(_DIR_NAMES)]
        names, numbers = self._texts(_BASE_NAMES), self._numbers(_DIR_INDEXES)
        return [posixpath.join(folders[number], name) for name, number in zip(names, numbers, strict=True)]

    def _numbers(self, tag: int, most: int | None = None) -> tuple[int, ...]:
        kind, offset, count = self._index.get(tag, (0, 0, 0))
        if kind != _INT32:
            return ()
        count = min(count, len(self._values) // 4, most or count)
        return struct.unpack_from(f">{count}I", self._values, offset)

    def _texts(self, tag: int, most: int | None = None) -> list[str]:
        kind, offset, count = self._index.get(tag, (0, 0, 0))
        if kind not in (_STRING, _STRING_ARRAY, _I18N):
            return []
        count = min(count, len(self._values), most or count)
        found = []
        for _ in range(count):
            end = self._values.index(b"\0", offset)
            found.append(text_of(self._values[offset:end]))
            offset = end + 1
        return found
