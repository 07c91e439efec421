"""What each layer changes, read once: images that share a layer share its record.

A record is a file of JSON lines, compressed: first what the layer removes of those below it, then what it adds, in the
order of its archive. A layer is named by the digest of its content, so a record never becomes wrong; the number in
the file's name is that of the form and of the readers, and is raised when either changes. Source of the names by which
a layer removes files: https://github.com/opencontainers/image-spec/blob/main/layer.md.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import tempfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from aml_images_dagster.errors import BadInput
from aml_images_dagster.http_connection import time_limit
from aml_images_dagster.registry.layers import LayerArchive, UnreadableLayer, open_layer
from aml_images_dagster.registry.oci import read_manifest
from aml_images_dagster.text import printable_line
from aml_images_dagster.trust.file_tree import LONGEST_PATH
from aml_images_dagster.trust.packages import RPM_DATABASE, Document, Reader, UnreadableDocument, reader_of, rpm

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable, Iterator, Mapping

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Registry

_FORM = 4
_LAYER_SECONDS = 3600
_END = b"null\n"
"""The last line; without it a record is not whole."""
_REMOVED, _ALL_REMOVED = ".wh.", ".wh..wh..opq"
_REMOVALS = ("remove", "empty")
_WINDOWS_DRIVE, _WINDOWS_FILES = "C:/", "Files/"
_LONGEST_RECORD = 256 * 2**20
_MOST_LINES = 500_000
_LARGEST_DATABASE = 2 * 2**30
_MOST_REMOVED = 200_000
_PIECE_BYTES = 2**20
_MOST_RECORDS = 2_000
_MOST_BYTES = 512 * 2**20
_COMPRESSION = 5


@dataclass(frozen=True, slots=True)
class Change:
    """What a layer does to one path.

    Attributes:
        what: `remove`: the path, of the layers below; `empty`: what these have in the folder; `folder`, `file`, `link`
            and `hard_link` add something; `unread`: something could not be read.
        path: From the root of the image.
        target: Of a link: what it says; of a hard link: the path of its file; of `unread`: why.
        document: What a file says; None when it does not list packages.
    """

    what: Literal["remove", "empty", "folder", "file", "link", "hard_link", "unread"]
    path: str
    target: str = ""
    document: Document | None = None

    @classmethod
    def read(cls, line: bytes) -> Change:
        """The change of a line that `written` has written."""
        what, path, target, document = json.loads(line)
        return cls(what, path, target, Document.read(document) if document else None)

    def written(self) -> bytes:
        """The change as a line."""
        document = self.document.written() if self.document else None
        return f"{json.dumps([self.what, self.path, self.target, document])}\n".encode()


class LayerRecords:
    """Records of layers in a folder that processes share.

    Args:
        folder: The folder; it is made when it is needed. The records that were used last stay in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def changes(self, registry: Registry, repository: str, digest: str) -> Iterator[Iterator[Change]]:
        """What a layer changes.

        What cannot be read in it, or that it cannot be read at all, is among the changes.

        Raises:
            BadInput: There is no such layer.
            Unreachable: The registry does not answer, or serves something else than it promised.
        """
        kept = self._folder / f"{digest.replace(':', '-')}.{_FORM}.jsonl.gz"
        record = _opened(kept)
        if record is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _lock(self._folder / "lock", digest):
                record = _opened(kept) or self._new(registry, repository, digest, kept)
        with record, gzip.open(record) as lines:
            yield map(Change.read, itertools.takewhile(lambda line: line != _END, lines))

    def files_in(self, registry: Registry, image: Reference, paths: Iterable[str]) -> dict[str, bool]:
        """Which of the absolute paths an image of one platform has.

        Layers are looked at newest first, only until every path is decided: what an image adds at its end costs little.
        A layer that cannot be read, the part of one, or what is beyond the limits of a record, counts as without files.

        Raises:
            BadInput: There is no such image.
            Unreachable: The registry does not answer, or serves something else than it promised.
        """
        manifest = registry.manifest(image)
        if manifest is None:
            raise BadInput("the registry has no such image", where=str(image), hint="Is the name right?")
        names = {path: _name_in_layers(path) for path in paths}
        decided: dict[str, bool] = {}
        for layer in reversed(read_manifest(manifest).get("layers", ())):
            looked_for = {path: name for path, name in names.items() if path not in decided}
            if looked_for and not layer.get("urls"):  # a Windows base is in the registry of Microsoft alone
                with self.changes(registry, image.repository, layer["digest"]) as changes:
                    decided |= _decide(changes, looked_for)
        return {path: decided.get(path, False) for path in names}

    def _new(self, registry: Registry, repository: str, digest: str, kept: Path) -> IO[bytes]:
        """Read a layer and keep its record, if it could be read to its end."""
        with tempfile.TemporaryDirectory(prefix="new-", dir=self._folder) as work:
            record = Path(work) / "record"
            with time_limit(_LAYER_SECONDS):
                is_whole = _write(registry, repository, digest, record)
            opened = record.open("rb")
            if is_whole:
                record.replace(kept)
                self._remove_the_oldest()
        return opened

    def _remove_the_oldest(self) -> None:
        found = []
        for path in self._folder.glob("*.gz"):
            with suppress(FileNotFoundError):  # another process removes, too
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        found.sort(reverse=True)
        sizes = itertools.accumulate(size for _, size, _ in found)
        for number, (total, (_, _, path)) in enumerate(zip(sizes, found, strict=True)):
            if total > _MOST_BYTES or number >= _MOST_RECORDS:
                path.unlink(missing_ok=True)


def _decide(changes: Iterable[Change], looked_for: Mapping[str, str]) -> dict[str, bool]:
    """What one layer says of paths: there, removed, or nothing. What it removes is of those below it."""
    decided = {}
    for change in changes:
        for path, name in looked_for.items():
            if change.what == "remove":
                is_decided = f"{name}/".startswith(f"{change.path}/")
            elif change.what == "empty":
                is_decided = not change.path or name.startswith(f"{change.path}/")
            else:
                is_decided = change.what != "unread" and change.path == name
            if is_decided:
                decided[path] = change.what not in _REMOVALS
    return decided


def _name_in_layers(path: str) -> str:
    return path.replace("\\", "/").replace(_WINDOWS_DRIVE, _WINDOWS_FILES).removeprefix("/")


def _opened(kept: Path) -> IO[bytes] | None:
    """A record that is there and whole."""
    try:
        record = kept.open("rb")
    except FileNotFoundError:
        return None
    end = b""
    try:
        with gzip.open(record) as lines:
            while piece := lines.read(_PIECE_BYTES):
                end = (end + piece)[-len(_END) :]
    except (OSError, EOFError, zlib.error):
        end = b""
    if end != _END:
        record.close()
        return None
    record.seek(0)
    with suppress(OSError):
        os.utime(kept)
    return record


@contextmanager
def _lock(path: Path, digest: str) -> Iterator[None]:
    """Wait while another process reads the same layer. Without locks both read it, and both write the same."""
    with path.open("ab") as file:
        # Windows has no locks of this kind, and some file systems have none.
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX, 1, int(digest.rpartition(":")[2][:8], 16))
        yield


def _write(registry: Registry, repository: str, digest: str, record: Path) -> bool:
    """Write the record of a layer; False when the layer could not be read to its end."""
    added = record.with_name("added")
    unreadable: Change | None = None
    with _compressed(added) as lines, tempfile.TemporaryDirectory(dir=record.parent) as databases:
        reading = _Reading(lines, Path(databases))
        try:
            with open_layer(registry, repository, digest) as layer:
                for entry in layer:
                    reading.take(layer, entry)
        except UnreadableLayer as error:
            unreadable = Change("unread", "", f"layer {digest}: {error}")
        try:
            reading.finish()
        except UnreadableLayer as error:
            unreadable = unreadable or Change("unread", "", f"layer {digest}: {error}")
        lines.write(_END)
    with _compressed(record) as lines:
        for change in filter(None, (unreadable, *reading.removed)):
            lines.write(change.written())
    # What is written by gzip one after the other is one content.
    with record.open("ab") as whole, added.open("rb") as rest:
        shutil.copyfileobj(rest, whole)
    return unreadable is None


def _compressed(path: Path) -> gzip.GzipFile:
    # Without the time: the same layer has the same record.
    return gzip.GzipFile(path, "wb", _COMPRESSION, mtime=0)


class _Reading:
    """A layer that is being read.

    Args:
        lines: Receives what the layer adds.
        databases: An empty folder for databases, which are read as files.

    Attributes:
        removed: What the layer removes of those below it.
    """

    def __init__(self, lines: gzip.GzipFile, databases: Path) -> None:
        self.removed: list[Change] = []
        self._lines = lines
        self._databases = databases
        self._paths: dict[Path, str] = {}
        self._characters = 0

    def take(self, layer: LayerArchive, entry: tarfile.TarInfo) -> None:
        """The next entry of the layer."""
        path = _normal(entry.name)
        folder, _, name = path.rpartition("/")
        if len(path) > LONGEST_PATH:
            self._unread(f"{path[:60]}…", "its path is too long")
        elif name.startswith(_REMOVED):
            self._remove(folder, name)
        elif entry.isdir():
            self._add(Change("folder", path))
        elif entry.issym():
            self._add(Change("link", path, entry.linkname[:LONGEST_PATH]))
        elif entry.islnk():
            self._add(Change("hard_link", path, _normal(entry.linkname[:LONGEST_PATH])))
        elif entry.isreg():
            self._add(Change("file", path, document=self._document(layer, entry, path)))
        else:  # a device or a pipe
            self._add(Change("file", path))

    def finish(self) -> None:
        """Read the databases, whose logs may have come after them."""
        for database, path in self._paths.items():
            try:
                self._add(Change("file", path, document=_checked(rpm.read_database(database))))
            except UnreadableDocument as error:
                self._unread(path, str(error))

    def _remove(self, folder: str, name: str) -> None:
        if len(self.removed) >= _MOST_REMOVED:
            raise UnreadableLayer(f"it removes more than {_MOST_REMOVED:,} files")
        if name == _ALL_REMOVED:
            self.removed.append(Change("empty", folder))
        elif not name.startswith(f"{_REMOVED}{_REMOVED}"):  # the others of these are notes of AUFS
            removed = name.removeprefix(_REMOVED)
            self.removed.append(Change("remove", f"{folder}/{removed}" if folder else removed))

    def _document(self, layer: LayerArchive, entry: tarfile.TarInfo, path: str) -> Document | None:
        """What a file says."""
        database = RPM_DATABASE.fullmatch(path)
        reader = reader_of(path)
        try:
            if database:
                self._copy_database(layer, entry, path, is_log=bool(database["log"]))
            if reader is None:
                return None
            if entry.size > reader.longest:
                raise UnreadableDocument(f"it has more than {reader.longest:,} bytes")  # noqa: TRY301
            if not reader.has_content:
                return reader.read(b"")
            with layer.open(entry) as file:
                return _read(reader, file.read())
        except UnreadableDocument as error:
            self._unread(path, str(error))
        return None

    def _copy_database(self, layer: LayerArchive, entry: tarfile.TarInfo, path: str, *, is_log: bool) -> None:
        if entry.size > _LARGEST_DATABASE:
            raise UnreadableDocument(f"it has more than {_LARGEST_DATABASE:,} bytes")
        folder, _, name = path.rpartition("/")
        copy = self._databases / folder.replace("/", "-") / name
        copy.parent.mkdir(exist_ok=True)
        with layer.open(entry) as file, copy.open("wb") as written:
            shutil.copyfileobj(file, written, _PIECE_BYTES)
        if not is_log:
            self._paths[copy] = path

    def _unread(self, path: str, why: str) -> None:
        self._add(Change("unread", path, f"{printable_line(path)}: {why}"))

    def _add(self, change: Change) -> None:
        line = change.written()
        self._characters += len(line)
        if self._characters > _LONGEST_RECORD:
            raise UnreadableLayer(f"what there is to say of its files has more than {_LONGEST_RECORD:,} bytes")
        self._lines.write(line)


def _read(reader: Reader, content: bytes) -> Document:
    if content.count(b"\n") > _MOST_LINES:  # each takes more memory than it has characters
        raise UnreadableDocument(f"it has more than {_MOST_LINES:,} lines")
    return _checked(reader.read(content))


def _checked(document: Document) -> Document:
    """A document as a record has it, if all of its packages have names."""
    document = Document.read(document.written())
    for package in document.packages:
        try:
            str(package.purl)
        except (ValueError, TypeError) as error:
            raise UnreadableDocument(f"{package.name[:60]!r} is no name of a package") from error
    return document


def _normal(path: str) -> str:
    """A path of an archive, from the root of the image."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))
