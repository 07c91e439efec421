"""Source trees: the files that images are made of, from a folder or from a git commit.

The same content gives the same paths, modes and bytes from both. Two habits of git stand in the way of that, and
both are settled in `.gitattributes`: with `core.autocrlf` a working tree has other line ends than the commit (write
`* -text`, or `eol=lf`), and files kept by Git LFS are pointers in a commit.
"""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from typing_extensions import override

from aml_images_dagster.catalog import git
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

_SUBMODULE = 0o160000
_SMALL_BYTES = 1024
"""Of a file that is kept once it was read: a process of git costs more than that."""
_MOST_FILES = 100_000
"""Outside of git: a disk or a home is not searched for seconds."""
_FORBIDDEN_PARTS = frozenset({"", ".", "..", ".git"})


class FileMode(IntEnum):
    """What git, and therefore this package, keeps of a file's mode."""

    REGULAR = 0o100644
    EXECUTABLE = 0o100755
    SYMLINK = 0o120000


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a tree.

    Attributes:
        mode: Regular, executable or symbolic link.
        oid: git's name of the content, where git is the source; else None.
        size: Size in bytes, where it is known without reading; else None.
    """

    mode: FileMode
    oid: str | None = None
    size: int | None = None


class Tree(Protocol):
    """The files of one state of a repository. Paths are relative to its root and use `/`."""

    root: Path
    """The repository, or a folder in it."""

    @property
    def commit(self) -> str | None:
        """The full object name of the commit; None for a working tree."""

    def may_have(self, _folder: str) -> bool:
        """Whether there may be files in a folder. Asked before all files are listed, which may take long."""
        return True

    def files(self) -> Mapping[str, FileEntry]:
        """All files, sorted by path. Folders and submodules are not files."""

    def read(self, path: str) -> bytes:
        """The content of one file of `files()`; for a symbolic link its target.

        Raises:
            BadInput: The file cannot be read.
            KeyError: The tree has no such file.
        """

    def read_many(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Contents of several files in the order asked for, one at a time in memory.

        Raises:
            BadInput: One of the files cannot be read.
            KeyError: The tree lacks one of the files.
        """

    def read_ahead(self, paths: Iterable[str]) -> None:
        """Read small files that will be read one after the other, if it is cheaper to read them together."""
        return

    def sizes(self, paths: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Paths of files and their sizes in bytes, without reading them."""
        entries = self.files()
        return ((path, entries[path].size or 0) for path in paths)

    def below(self, folder: str) -> Sequence[str]:
        """The files in a folder and in those inside of it, sorted; an empty text is the root."""
        if not folder:
            return self._sorted
        start = bisect_left(self._sorted, f"{folder}/")
        return self._sorted[start : bisect_left(self._sorted, f"{folder}0", start)]  # 0 is what comes after /

    @property
    def submodules(self) -> Collection[str]:
        """Folders whose content another repository has: submodules, and repositories inside of the working tree."""
        return ()

    @cached_property
    def links(self) -> Sequence[str]:
        """The symbolic links, sorted."""
        return tuple(path for path, entry in self.files().items() if entry.mode is FileMode.SYMLINK)

    @cached_property
    def _sorted(self) -> Sequence[str]:
        return tuple(self.files())


class WorkingTree(Tree):
    """A folder as it is now: tracked files and those that git would offer to add.

    Outside of a git repository all files below the folder count. Symbolic links are read as links and never
    followed, so nothing outside of the folder is ever read.

    Args:
        root: The folder.

    Raises:
        BadInput: There is no such folder.
    """

    commit = None

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise BadInput("there is no such folder", where=str(root), hint="Name a clone with --repo.")
        self.root = root

    @override
    def may_have(self, folder: str) -> bool:
        return (self.root / folder).is_dir()

    @override
    def files(self) -> Mapping[str, FileEntry]:
        """The folder is read once; make a new object to see later changes.

        Raises:
            BadInput: It is no git repository, and has more files than a repository of image folders.
        """
        return self._files

    @override
    def read(self, path: str) -> bytes:
        if path not in self._files:
            raise KeyError(path)
        file = self.root / path
        # Without core.symlinks, as on Windows, git keeps a link as a file that holds the target.
        try:
            return os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
        except OSError as error:
            raise BadInput(
                f"the file cannot be read: {error.strerror or type(error).__name__}",
                where=path,
                hint="Check its permissions, and the disk.",
            ) from None

    @override
    def read_many(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            yield path, self.read(path)

    @property
    @override
    def submodules(self) -> Collection[str]:
        return self._indexed[1]

    @cached_property
    def _indexed(self) -> tuple[dict[str, FileMode | None], frozenset[str]]:
        return _index(self.root) if git.is_repository(self.root) else (dict.fromkeys(self._all()), frozenset())

    @cached_property
    def _files(self) -> Mapping[str, FileEntry]:
        indexed, _ = self._indexed
        real_folders = {"": True}
        found = {}
        for path in sorted(indexed):
            entry = self._entry(path, indexed[path])
            if entry is not None and self._is_real_folder(path.rpartition("/")[0], real_folders):
                found[path] = entry
        return found

    def _all(self) -> dict[str, None]:
        found = dict.fromkeys(islice(_walk(self.root), _MOST_FILES + 1))
        if len(found) > _MOST_FILES:
            raise BadInput(
                f"there are more than {_MOST_FILES:,} files, and this is no git repository",
                where=str(self.root),
                hint="Name the root of the repository of image folders with --repo; without git, a folder without "
                "other files.",
            )
        return found

    def _entry(self, path: str, indexed: FileMode | None) -> FileEntry | None:
        try:
            status = (self.root / path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # in a folder that may not be searched; to read it says so
            return FileEntry(indexed or FileMode.REGULAR)
        if stat.S_ISLNK(status.st_mode):
            return FileEntry(FileMode.SYMLINK)
        if not stat.S_ISREG(status.st_mode):
            return None
        if indexed is not None:
            return FileEntry(indexed, size=status.st_size)
        executable = status.st_mode & stat.S_IXUSR
        return FileEntry(FileMode.EXECUTABLE if executable else FileMode.REGULAR, size=status.st_size)

    def _is_real_folder(self, folder: str, known: dict[str, bool]) -> bool:
        """Whether no part of the path is a symbolic link; git takes files below one for deleted."""
        if folder not in known:
            parent = folder.rpartition("/")[0]
            # `Path.is_symlink` raises in a folder that may not be searched.
            is_link = os.path.islink(self.root / folder)  # noqa: PTH114
            known[folder] = self._is_real_folder(parent, known) and not is_link
        return known[folder]


class CommitTree(Tree):
    """The files of a commit, from git's objects alone: nothing is checked out.

    Args:
        root: A clone (bare ones too), or a folder in it; the tree is what the commit has below that folder.
        commit: A full object name, from `git.resolve`.
        prefixes: Restrict the tree to these folders and files; empty takes all.
    """

    def __init__(self, root: Path, commit: str, prefixes: Iterable[str] = ()) -> None:
        self.root = root
        self._commit = commit
        self._prefixes = tuple(prefixes)
        self._small: dict[str, bytes] = {}

    @property
    @override
    def commit(self) -> str:
        return self._commit

    @property
    @override
    def submodules(self) -> Collection[str]:
        return self._listed[1]

    @override
    def files(self) -> Mapping[str, FileEntry]:
        return self._files

    @override
    def read(self, path: str) -> bytes:
        return next(self.read_many([path]))[1]

    @override
    def sizes(self, paths: Sequence[str]) -> Iterator[tuple[str, int]]:
        return ((path, self._sizes[self._files[path].oid or ""]) for path in paths)

    @cached_property
    def _sizes(self) -> Mapping[str, int]:
        """Of every object: whoever asks for some asks again, and a process of git costs more than its answers."""
        objects = list(dict.fromkeys(entry.oid for entry in self._files.values() if entry.oid))
        return dict(zip(objects, git.object_sizes(self.root, objects), strict=True))

    @override
    def read_many(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """One git process serves all files; none is started for small ones that were read before."""
        wanted = [(path, self._files[path].oid or "") for path in paths]
        if all(oid in self._small for _, oid in wanted):
            yield from ((path, self._small[oid]) for path, oid in wanted)
            return
        with tempfile.TemporaryFile() as names:
            # A file, not a pipe: git may answer before it was asked everything, and nobody waits for the other.
            names.writelines(f"{oid}\n".encode("ascii") for _, oid in wanted)
            names.seek(0)
            with subprocess.Popen(
                git.command(self.root, "cat-file", "--batch"),
                stdin=names,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=git.environment(),
            ) as process:
                assert process.stdout is not None  # noqa: S101 - a pipe was asked for
                for path, oid in wanted:
                    line = process.stdout.readline()
                    header = line.split()
                    size = int(header[2]) if len(header) == 3 else -1
                    content = process.stdout.read(size + 1)
                    if not line.endswith(b"\n") or len(content) != size + 1:
                        raise git.ended(self.root, process.wait())
                    if size < 0:
                        raise BadInput(
                            f"git has no object {oid}, the content of {path}",
                            where=str(self.root),
                            hint="The clone is damaged or partial: fetch again, without a filter.",
                        )
                    if size <= _SMALL_BYTES:
                        self._small[oid] = content[:size]
                    yield path, content[:size]

    @override
    def read_ahead(self, paths: Iterable[str]) -> None:
        with suppress(BadInput):  # whoever reads the file that is missing is told
            for _ in self.read_many(dict.fromkeys(paths)):
                pass

    @property
    def _files(self) -> Mapping[str, FileEntry]:
        return self._listed[0]

    @cached_property
    def _listed(self) -> tuple[Mapping[str, FileEntry], frozenset[str]]:
        listed = git.run(self.root, "--literal-pathspecs", "ls-tree", "-r", "-z", self._commit, "--", *self._prefixes)
        found = {}
        submodules = set()
        for line in listed.split(b"\0")[:-1]:
            details, _, name = line.partition(b"\t")
            mode, _, oid = details.decode("ascii").split(" ")
            if int(mode, 8) == _SUBMODULE:
                submodules.add(git.decode(name))
            else:
                path = git.decode(name)
                if not _FORBIDDEN_PARTS.isdisjoint(path.split("/")):
                    raise BadInput(
                        "a path like this leaves the repository; git itself writes none",
                        where=path,
                        hint="Create the commit again with an unmodified git.",
                    )
                found[path] = FileEntry(_file_mode(mode), oid=oid)
        return dict(sorted(found.items())), frozenset(submodules)


def _index(root: Path) -> tuple[dict[str, FileMode | None], frozenset[str]]:
    """Tracked and addable files, with a mode where only the index can tell it; and submodules."""
    keeps_modes = git.run(root, "config", "--type=bool", "--default=true", "--get", "core.fileMode").strip() == b"true"
    found: dict[str, FileMode | None] = {}
    submodules = set()
    for line in git.run(root, "ls-files", "-z", "--stage").split(b"\0")[:-1]:
        details, _, name = line.partition(b"\t")
        mode = details.partition(b" ")[0].decode("ascii")
        if int(mode, 8) == _SUBMODULE:
            submodules.add(git.decode(name))
        else:
            found[git.decode(name)] = None if keeps_modes else _file_mode(mode)
    for path in git.untracked_files(root):
        if path.endswith("/"):
            submodules.add(path.rstrip("/"))
        else:
            found.setdefault(path, None)
    return found, frozenset(submodules)


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        inside = PurePosixPath(Path(folder).relative_to(root).as_posix())
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = [name for name in folders if name != ".git"]
        for name in (*names, *links):
            yield str(inside / name)


def _file_mode(mode: str) -> FileMode:
    """A mode out of git's objects; very old commits have others than the three, e.g. 100664."""
    bits = int(mode, 8)
    if stat.S_ISLNK(bits):
        return FileMode.SYMLINK
    return FileMode.EXECUTABLE if bits & stat.S_IXUSR else FileMode.REGULAR
