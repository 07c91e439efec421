"""The log of a run: a blob that grows while the run goes on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from aml_images_dagster.engine.stream import redact
from aml_images_dagster.identity.faults import PATIENCE
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aml_images_dagster.engine.interface import LogLine

_TAIL_LINES = 40
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
        self._log = log
        self._secrets = tuple(secrets)
        self._link = ""
        self._read_bytes = 0
        self._piece = b""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def read_on(self) -> None:
        """Pass on the lines that are new. A log that cannot be read now is read later."""
        from azure.core.exceptions import AzureError, HttpResponseError
        from azure.storage.blob import BlobClient

        try:
            self._link = self._link or self._find_link()
            with BlobClient.from_blob_url(self._link, **PATIENCE) as blob:
                new = blob.download_blob(offset=self._read_bytes).readall()
        except HttpResponseError as error:
            if error.status_code == _EXPIRED:
                self._link = ""
            return
        except AzureError:
            return
        self._read_bytes += len(new)
        *lines, self._piece = (self._piece + new).split(b"\n")
        for line in lines:
            self._write(line)

    def finish(self) -> str:
        """Pass on the rest; the last lines of all."""
        self.read_on()
        self._write(self._piece)
        self._piece = b""
        return "\n".join(self._tail)

    def _write(self, line: bytes) -> None:
        shown = redact(printable(line.decode(errors="replace").rstrip().rsplit("\r", 1)[-1]), self._secrets)
        if shown:
            self._tail.append(shown)
            self._log(shown)
