"""A quarantine for the objects of one fetch, until they are accepted into the clone.

Git does the same with pushed objects. So concurrent fetches into one clone are independent: each has its own size,
and a failed one affects only itself.

Sources:
    https://git-scm.com/docs/git-receive-pack#_quarantine_environment
    https://git-scm.com/docs/git#_the_git_repository: GIT_DIR, GIT_COMMON_DIR, GIT_OBJECT_DIRECTORY
    https://github.com/git/git/blob/v2.47.0/tmp-objdir.c: the order in which files are moved
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.catalog import git

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOCKED = "aml-images-fetch-"
_UNLOCKED = "tmp_objdir-aml-images-fetch-"  # by the beginning of the name `git gc` knows that it may go, in two weeks
"""A folder has this name until its lock is taken, and then the other one: without a holder, that is a leftover."""
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A fetch that is under way.

    Attributes:
        folder: Git's folder during the fetch, all but refs and configuration: these are the clone's.
        common: The clone's own.
        lock: The fetch is in progress as long as a process has this file descriptor open.
    """

    folder: Path
    common: Path
    lock: int

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes git fetch to here. It must not write refs: the clone does not have the objects yet."""
        return {
            "GIT_DIR": str(self.folder),
            "GIT_COMMON_DIR": str(self.common),
            "GIT_OBJECT_DIRECTORY": str(self._objects),
        }

    @property
    def size_bytes(self) -> int:
        """The size of all that has come."""
        return sum(file.stat().st_size for file in self._files())

    @property
    def fetched(self) -> str:
        """The commit that has come."""
        return (self.folder / "FETCH_HEAD").read_text("utf-8", "replace").partition("\t")[0]

    def migrate(self) -> None:
        """Move the objects into the clone. An index comes after its pack: with it, git takes the pack for whole."""
        for file in sorted(self._files(), key=lambda file: (file.suffix == ".idx", file)):
            there = self.folder.parent / file.relative_to(self._objects)
            there.parent.mkdir(exist_ok=True)
            file.replace(there)

    @property
    def _objects(self) -> Path:
        return self.folder / "objects"

    def _files(self) -> list[Path]:
        return [file for file in self._objects.glob("*/*") if file.is_file() and file.parent.name != "info"]


@contextmanager
def quarantine(root: Path) -> Iterator[Quarantine]:
    """A new one for a clone; in the end nothing is left of it. Removes those of fetches that were killed."""
    path = git.run(root, "rev-parse", "--git-path", "objects").removesuffix(b"\n")
    objects = (root / os.fsdecode(path)).resolve()
    common = (root / os.fsdecode(git.run(root, "rev-parse", "--git-common-dir").removesuffix(b"\n"))).resolve()
    _remove_leftovers(objects)
    made = Path(tempfile.mkdtemp(prefix=_UNLOCKED, dir=objects))
    folder = made.with_name(made.name.replace(_UNLOCKED, _LOCKED))
    lock = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(lock)
        (made / "HEAD").write_text("ref: refs/heads/none\n")  # git takes no folder without one for a repository
        (made / "objects" / "info").mkdir(parents=True)
        (made / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects) + b"\n")
        made.rename(folder)
        yield Quarantine(folder, common, lock)
    finally:
        for each in (made, folder):
            shutil.rmtree(each, ignore_errors=True)
        os.close(lock)


def _remove_leftovers(objects: Path) -> None:
    for folder in objects.glob(f"{_LOCKED}*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # another is removing it, or was killed in the middle of that
            shutil.rmtree(folder, ignore_errors=True)
            continue
        if _take(lock):  # else its fetch is in progress
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _take(lock: int) -> bool:
    """Take a lock that is free. On a file system without locks this fails, and leftovers stay."""
    import fcntl  # Windows has none, and definitions load there too

    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
