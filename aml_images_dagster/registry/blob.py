"""A blob as a stream: read once, not held in memory, verified at its end."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import urllib3.exceptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

PIECE_BYTES = 1 << 20


class VerifiedBlob:
    """A blob that is read once from a network; its end raises unless the bytes match the digest.

    It has what requests wants of a body of known length: `read`, `__iter__` and `len`.

    Args:
        answer: The answer whose body the blob is.
        digest: Its digest.
        broken: Makes the exception for an interrupted transfer, from the reason.
        corrupt: Makes the exception for wrong bytes, from a name, the wanted digest and the one found.
    """

    def __init__(
        self,
        answer: requests.Response,
        digest: str,
        broken: Callable[[str], Exception],
        corrupt: Callable[[str, str, str], Exception],
    ) -> None:
        self._source = answer.raw
        self._digest = digest
        self._broken = broken
        self._corrupt = corrupt
        self._algorithm = digest.partition(":")[0]
        self._seen = hashlib.new(self._algorithm)
        length = answer.headers.get("Content-Length", "")
        if re.fullmatch(r"[0-9]{1,18}", length):
            self.len = int(length)

    def read(self, size: int = -1) -> bytes:
        """Read on, to the end if `size` is negative."""
        try:
            piece: bytes = self._source.read(None if size < 0 else size)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._broken(str(error)) from None
        self._seen.update(piece)
        if size < 0 or (size and not piece):
            found = f"{self._algorithm}:{self._seen.hexdigest()}"
            if found != self._digest:
                raise self._corrupt("a blob", self._digest, found)
        return piece

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(PIECE_BYTES), b"")
