"""The build context of an image: the files that its Dockerfile can copy, and the tar in which the engine gets them.

Which files these are says context_files.py.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.context_files import IGNORE_FILE, OWN_PREFIX, ContextFiles
from aml_images_dagster.catalog.image import DOCKERFILE
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

_BUILT_DOCKERFILE = f"{OWN_PREFIX}.{DOCKERFILE}"
# Before it runs a build, the engine's classic builder takes the Dockerfile and .dockerignore out of the context when
# .dockerignore names them. So the rendered Dockerfile, with its private part, is out of reach for `COPY . /`.
# Source: https://github.com/moby/moby/blob/v20.10.24/builder/remotecontext/detect.go, removeDockerfile
_OWN_IGNORE_FILE = f"{IGNORE_FILE}\n{_BUILT_DOCKERFILE}\n"
# Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LARGEST_POINTER_BYTES = 1024


@dataclass(frozen=True, slots=True)
class ContextFile:
    """One file of a context.

    Attributes:
        path: Relative to the context's folder, with `/`.
        mode: Regular, executable or symbolic link.
        sha256: Of the content; of the target for a symbolic link. In hexadecimal.
        size_bytes: Size of the content.
    """

    path: str
    mode: FileMode
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The files that a Dockerfile can copy.

    Attributes:
        tree: Where the contents are.
        folder: The context's folder in that tree.
        files: Sorted by path.
        folders: Folders without any of them, sorted.
    """

    tree: Tree
    folder: str
    files: tuple[ContextFile, ...]
    folders: tuple[str, ...] = ()

    @classmethod
    def of(cls, tree: Tree, image: Image) -> BuildContext:
        """Gather the context of an image; reads every file once, for its hash.

        Raises:
            BadInput: A file is a Git LFS pointer, or has a name that is not UTF-8; a submodule is copied; .dockerignore
                is wrong.
        """
        context = ContextFiles(tree, image)
        if context.ignore_fault:
            raise context.ignore_fault
        for name in context.submodules:
            raise _submodule_fault(context.path(name))
        entries = tree.files()
        files = []
        for name, (path, content) in zip(context.names, tree.read_many(context.paths), strict=True):
            _check(path, content)
            digest = hashlib.sha256(content).hexdigest()
            files.append(ContextFile(name, entries[path].mode, digest, len(content)))
        return cls(tree, image.context, tuple(files), tuple(context.folders))

    @property
    def size_bytes(self) -> int:
        """Size of all contents together. Whoever limits contexts looks here and at `files`, before `write_tar`."""
        return sum(file.size_bytes for file in self.files)

    def write_tar(self, target: Path, dockerfile: str, mtime: int) -> str:
        """Write the context for the engine; the same context and time give the same bytes anywhere.

        Args:
            target: The tar file to write.
            dockerfile: The rendered Dockerfile. The image cannot copy it.
            mtime: Unix time that all files get. It decides nothing about a builder's cache.

        Returns:
            Path of the rendered Dockerfile inside the tar.

        Raises:
            BadInput: A file of the working tree changed since the context was gathered.
        """
        own = {IGNORE_FILE: _OWN_IGNORE_FILE.encode(), _BUILT_DOCKERFILE: dockerfile.encode()}
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
            above = _folders((*(file.path for file in self.files), *self.folders))
            for folder in sorted({*above, *self.folders}):
                tar.addfile(_member(folder, tarfile.DIRTYPE, 0o755, mtime))
            for name, content in own.items():
                tar.addfile(_member(name, tarfile.REGTYPE, 0o644, mtime, len(content)), io.BytesIO(content))
            paths = [posixpath.join(self.folder, file.path) for file in self.files]
            for file, (path, content) in zip(self.files, self.tree.read_many(paths), strict=True):
                if hashlib.sha256(content).hexdigest() != file.sha256:
                    raise BadInput("the file changed while the build was starting", where=path, hint="Build again.")
                if file.mode is FileMode.SYMLINK:
                    link = _member(file.path, tarfile.SYMTYPE, 0o777, mtime)
                    link.linkname = content.decode("utf-8", "surrogateescape")
                    tar.addfile(link)
                else:
                    mode = 0o755 if file.mode is FileMode.EXECUTABLE else 0o644
                    tar.addfile(_member(file.path, tarfile.REGTYPE, mode, mtime, len(content)), io.BytesIO(content))
        return _BUILT_DOCKERFILE


def read_ahead(tree: Tree, contexts: Iterable[ContextFiles]) -> None:
    """Read what `context_faults` reads of each context, for all of them together, where that costs less."""
    small: list[str] = []
    for context in contexts:
        with suppress(BadInput):  # it is told when it is asked for that one
            small += _small(tree, context.paths)
    tree.read_ahead(small)


def context_faults(tree: Tree, context: ContextFiles) -> Iterator[BadInput]:
    """What keeps a context from being gathered; of the files only small ones are read."""
    if context.ignore_fault and context.sources:
        yield context.ignore_fault
    for name in context.submodules:
        yield _submodule_fault(context.path(name))
    contents = dict(tree.read_many(_small(tree, context.paths)))
    for path in context.paths:
        try:
            _check(path, contents.get(path, b""))
        except BadInput as error:
            yield error


def _small(tree: Tree, paths: Sequence[str]) -> list[str]:
    return [path for path, size in tree.sizes(paths) if size <= _LARGEST_POINTER_BYTES]


def _check(path: str, content: bytes) -> None:
    if content.startswith(_LFS_POINTER):
        raise BadInput(
            "the file is a Git LFS pointer, its content is elsewhere",
            where=path,
            hint="Keep files that an image copies in git itself, or let the Dockerfile download them.",
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        raise BadInput("the name of the file is not UTF-8", where=path, hint="Rename it.") from None


def _submodule_fault(path: str) -> BadInput:
    return BadInput(
        "the Dockerfile copies a submodule, whose files are in another repository",
        where=path,
        hint="Put the files into this repository, let the Dockerfile fetch them (ADD, git clone of a commit), or name "
        "the folder in .dockerignore.",
    )


def _folders(paths: Iterable[str]) -> list[str]:
    return sorted({str(folder) for path in paths for folder in PurePosixPath(path).parents if folder.name})


def _member(name: str, kind: bytes, mode: int, mtime: int, size: int = 0) -> tarfile.TarInfo:
    """A header that says nothing of this machine: TarInfo's owner and group are 0 and empty."""
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime, member.size = kind, mode, mtime, size
    return member
