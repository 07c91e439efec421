"""Tar files that are unpacked inside containers.

Files are sent to the engine in the request instead of as mounts: the engine may be on another machine,
and the containers write to copies.
"""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TEMPORARY = {"__pycache__", ".pytest_cache"}


class Archive:
    """A tar file in memory whose entries belong to root, or to the administrator on Windows."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add_folder(self, name: str, *, writable: bool = True) -> None:
        """Add a folder that all users may write to, or only root."""
        entry = tarfile.TarInfo(name)
        entry.type = tarfile.DIRTYPE
        entry.mode = 0o777 if writable else 0o755
        self._tar.addfile(entry)

    def add_file(self, name: str, content: bytes, *, executable: bool = False) -> None:
        """Add one file."""
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        entry.mode = 0o755 if executable else 0o644
        self._tar.addfile(entry, io.BytesIO(content))

    def add_tree(self, folder: Path, name: str) -> None:
        """Add a folder with all that is in it, without Python's caches."""
        self.add_folder(name)
        for path in sorted(folder.iterdir()):
            if path.name in _TEMPORARY:
                continue
            below = f"{name}/{path.name}"
            if path.is_dir() and not path.is_symlink():
                self.add_tree(path, below)
            else:
                self._add_leaf(path, below)

    def _add_leaf(self, path: Path, name: str) -> None:
        if path.is_symlink():
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.SYMTYPE
            entry.linkname = str(path.readlink())
            self._tar.addfile(entry)
        else:
            self.add_file(name, path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))

    def finish(self) -> bytes:
        """Close the archive and return its bytes."""
        self._tar.close()
        return self._buffer.getvalue()
