"""The log of a run: a blob that grows during the run."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from aml_images_dagster.bounded import LONGEST_LOG, Lines, up_to
from aml_images_dagster.engine.stream import LONGEST_TAIL_LINE, TAIL_LINES, redact
from aml_images_dagster.identity.faults import TIMEOUTS
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from azure.storage.blob import BlobClient

    from aml_images_dagster.engine.interface import LogLine

_PIECE_BYTES = 4 * 2**20
_MOST_AT_ONCE = 4
"""Pieces. A log that grows faster than it is read is read in part: its end says why a run failed."""
_EXPIRED = 403


class RunLog:
    """Reads on where it stopped.

    Args:
        find_link: Gives the log's URL with a signature; they end after a while, so it may be asked again.
        log: Receives the lines.
        secrets: Texts that may not appear in the log.
    """

    def __init__(self, find_link: Callable[[], str], log: LogLine, secrets: Iterable[str] = ()) -> None:
        self._find_link = find_link
        self._log = up_to(LONGEST_LOG, log)
        self._secrets = tuple(secrets)
        self._link = ""
        self._read_bytes = 0
        self._lines = Lines()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def read_on(self) -> None:
        """Pass on the lines that are new. A log that cannot be read now is read later."""
        from azure.core.exceptions import AzureError, HttpResponseError
        from azure.storage.blob import BlobClient

        try:
            self._link = self._link or self._find_link()
            with BlobClient.from_blob_url(self._link, **TIMEOUTS) as blob:
                left_bytes = self._read_piece(blob)
                if left_bytes > _MOST_AT_ONCE * _PIECE_BYTES:
                    left_out = left_bytes - _MOST_AT_ONCE * _PIECE_BYTES
                    self._write_rest()
                    self._write(f"[{left_out:,} bytes of the log are left out here]")
                    self._read_bytes += left_out
                for _ in range(_MOST_AT_ONCE):
                    if left_bytes > 0:
                        left_bytes = self._read_piece(blob)
        except HttpResponseError as error:
            if error.status_code == _EXPIRED:
                self._link = ""
        except AzureError:
            pass

    def finish(self) -> str:
        """Pass on the rest; the last lines of all."""
        self.read_on()
        self._write_rest()
        return "\n".join(self._tail)

    def _read_piece(self, blob: BlobClient) -> int:
        """Pass on a piece; how many bytes there are behind it."""
        found = blob.download_blob(offset=self._read_bytes, length=_PIECE_BYTES)
        new = found.readall()
        self._read_bytes += len(new)
        for line in self._lines.take(new):
            self._write(line)
        # Its `size` is that of the piece.
        return int(str(found.properties.content_range).rpartition("/")[2]) - self._read_bytes

    def _write_rest(self) -> None:
        for line in self._lines.rest():
            self._write(line)

    def _write(self, line: str) -> None:
        shown = redact(printable(line.rstrip().rsplit("\r", 1)[-1]), self._secrets)
        if shown:
            self._tail.append(shown[:LONGEST_TAIL_LINE])
            self._log(shown)
