"""The archive that a layer of an image is, as a stream, without pulling the image.

Source of the form: https://github.com/opencontainers/image-spec/blob/main/layer.md. Anybody may have made an archive:
it is decompressed while it comes and never held, and what is read of it at once, and how much of it there may be, is
limited here.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from typing_extensions import override

from aml_images_dagster.registry.interface import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.registry.interface import Registry, VerifiedBlob

MOST_ENTRIES = 2_000_000
"""Entries of one layer that are read."""
MOST_BYTES = 64 * 2**30
"""Decompressed bytes of one layer that are read."""
_LONGEST_HEADER = 256 * 1024
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LARGEST_WINDOW = 64 * 2**20
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MORE_OF_A_SPARSE_FILE = 482
"""Byte of a header that says that the list of a sparse file's parts goes on."""


class UnreadableLayer(Exception):  # noqa: N818
    """A layer that is no archive, is damaged, or has more than may be read; the text says which."""


class LayerArchive:
    """The entries of a layer, once, in their order; behind the last one the digest has been verified.

    Args:
        blob: The layer.
        archive: The same, decompressed.
    """

    def __init__(self, blob: VerifiedBlob, archive: tarfile.TarFile) -> None:
        self._blob = blob
        self._archive = archive

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Every entry.

        Raises:
            UnreadableLayer: See there.
            Unreachable: The registry does not answer, or serves something else than it promised.
        """
        for count, entry in enumerate(self._archive, 1):
            if count > MOST_ENTRIES:
                raise UnreadableLayer(f"it has more than {MOST_ENTRIES:,} entries")
            # It keeps all that it has read, of which there may be millions.
            self._archive.members.clear()  # type: ignore[attr-defined]
            self._archive.pax_headers.clear()  # type: ignore[attr-defined]
            yield entry
        _read_to_end(self._blob)

    def open(self, entry: tarfile.TarInfo) -> IO[bytes]:
        """The content of the file that is the current entry."""
        opened = self._archive.extractfile(entry)
        assert opened is not None  # noqa: S101 - a file, by contract
        return opened


@contextmanager
def open_layer(registry: Registry, repository: str, digest: str) -> Iterator[LayerArchive]:
    """Read a layer: a tar archive, as it is or compressed with gzip or zstd.

    Raises:
        BadInput: There is no such blob.
        UnreadableLayer: See there; also from inside of the block.
    """
    with registry.open_blob(repository, digest) as blob:
        try:
            with _explained():
                content = _Forward(_decompressed(io.BufferedReader(_Raw(blob), PIECE_BYTES)))
                with tarfile.open(fileobj=cast("IO[bytes]", content), mode="r:", tarinfo=_Entry) as archive:
                    yield LayerArchive(blob, archive)
        except UnreadableLayer:
            _read_to_end(blob)
            raise


@contextmanager
def _explained() -> Iterator[None]:
    import zstandard  # few layers need it

    try:
        yield
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError, EOFError) as error:
        raise UnreadableLayer(str(error) or type(error).__name__) from None
    except (ValueError, OverflowError, RecursionError) as error:  # from numbers and nesting in headers
        raise UnreadableLayer(f"a header is damaged: {error}") from None


def _read_to_end(blob: VerifiedBlob) -> None:
    """An archive may end before its blob, whose end verifies all of it."""
    for _ in blob:
        pass


class _Raw(io.RawIOBase):
    """A blob as a file of Python's."""

    def __init__(self, blob: VerifiedBlob) -> None:
        self._blob = blob

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        piece = self._blob.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _decompressed(source: io.BufferedReader) -> IO[bytes]:
    beginning = source.peek(4)
    if beginning.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=source))
    if beginning.startswith(_ZSTD):
        import zstandard

        reader = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        return cast("IO[bytes]", reader.stream_reader(source, read_across_frames=True))
    return source


class _Forward:
    """What tarfile wants of a file: it only ever goes on."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._position = 0

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        pieces = []
        while size > 0 and (piece := self._source.read(min(size, PIECE_BYTES))):
            pieces.append(piece)
            size -= len(piece)
            self._position += len(piece)
        if self._position > MOST_BYTES:
            raise UnreadableLayer(f"it has more than {MOST_BYTES:,} bytes")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def seek(self, position: int) -> int:
        while self._position < position and self.read(min(position - self._position, PIECE_BYTES)):
            pass
        return self._position


class _Entry(tarfile.TarInfo):
    """A header whose extensions, which tarfile reads whole, are limited."""

    @override
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Entry:
        entry = super().frombuf(buf, encoding, errors)
        if entry.type in _EXTENDED and entry.size > _LONGEST_HEADER:
            raise UnreadableLayer(f"a header has more than {_LONGEST_HEADER:,} bytes")
        if entry.type == tarfile.GNUTYPE_SPARSE and buf[_MORE_OF_A_SPARSE_FILE]:
            raise UnreadableLayer("a sparse file has too many parts")
        return entry

    def _proc_gnusparse_10(self, *_: object) -> None:
        # It reads a list without a limit.
        raise UnreadableLayer("a sparse file has its parts in its content")
