"""The build context of an image: the files that its Dockerfile can copy, and the tar in which the engine gets them.

It is what `docker build` would send from the image folder: nested image folders included, `.dockerignore` honoured.
Never in it are the files that speak to the factory (Dockerfile.private, tests.json, image.json) and, because the
engine gets one of our own, `.dockerignore` itself.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.image import DOCKERFILE, FACTORY_FILES, PRIVATE_DOCKERFILE
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

IGNORE_FILE = ".dockerignore"
OWN_PREFIX = ".aml-images"
"""What begins with this at the top of an image folder is ours and left out of the context."""

_BUILT_DOCKERFILE = f"{OWN_PREFIX}.{DOCKERFILE}"
# Before it runs a build, the engine's classic builder takes the Dockerfile and .dockerignore out of the context when
# .dockerignore names them. So the rendered Dockerfile, with its private part, is out of reach for `COPY . /`.
# Source: https://github.com/moby/moby/blob/v20.10.24/builder/remotecontext/detect.go, removeDockerfile
_OWN_IGNORE_FILE = f"{IGNORE_FILE}\n{_BUILT_DOCKERFILE}\n"
# Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"


@dataclass(frozen=True, slots=True)
class ContextFile:
    """One file of a context.

    Attributes:
        path: Relative to the image folder, with `/`.
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
        folder: The image folder in that tree.
        files: Sorted by path.
    """

    tree: Tree
    folder: str
    files: tuple[ContextFile, ...]

    @classmethod
    def of(cls, tree: Tree, image: Image) -> BuildContext:
        """Gather the context of an image; reads every file once, for its hash.

        Raises:
            BadInput: A file is a Git LFS pointer, or has a name that is not UTF-8.
        """
        kept = {name: image.file(name) for name in context_names(tree, image)}
        entries = tree.files()
        files = []
        for name, (path, content) in zip(kept, tree.read_many(kept.values()), strict=True):
            _check(path, content)
            digest = hashlib.sha256(content).hexdigest()
            files.append(ContextFile(name, entries[path].mode, digest, len(content)))
        return cls(tree, image.path, tuple(files))

    @property
    def size_bytes(self) -> int:
        """Size of all contents together. Whoever limits contexts looks here and at `files`, before `write_tar`."""
        return sum(file.size_bytes for file in self.files)

    def write_tar(self, target: Path, dockerfile: str) -> str:
        """Write the context for the engine; the same context gives the same bytes anywhere.

        Args:
            target: The tar file to write.
            dockerfile: The rendered Dockerfile. The image cannot copy it.

        Returns:
            Path of the rendered Dockerfile inside the tar.

        Raises:
            BadInput: A file of the working tree changed since the context was gathered.
        """
        own = {IGNORE_FILE: _OWN_IGNORE_FILE.encode(), _BUILT_DOCKERFILE: dockerfile.encode()}
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
            for folder in _folders(file.path for file in self.files):
                tar.addfile(_member(folder, tarfile.DIRTYPE, 0o755))
            for name, content in own.items():
                tar.addfile(_member(name, tarfile.REGTYPE, 0o644, len(content)), io.BytesIO(content))
            paths = [f"{self.folder}/{file.path}" if self.folder else file.path for file in self.files]
            for file, (path, content) in zip(self.files, self.tree.read_many(paths), strict=True):
                if hashlib.sha256(content).hexdigest() != file.sha256:
                    raise BadInput("the file changed while the build was starting", where=path, hint="Build again.")
                if file.mode is FileMode.SYMLINK:
                    link = _member(file.path, tarfile.SYMTYPE, 0o777)
                    link.linkname = content.decode("utf-8", "surrogateescape")
                    tar.addfile(link)
                else:
                    mode = 0o755 if file.mode is FileMode.EXECUTABLE else 0o644
                    tar.addfile(_member(file.path, tarfile.REGTYPE, mode, len(content)), io.BytesIO(content))
        return _BUILT_DOCKERFILE


def context_names(tree: Tree, image: Image) -> list[str]:
    """Names of all files in the context of an image, relative to its folder, sorted; no content is read."""
    prefix = image.file("")
    below = {path.removeprefix(prefix) for path in tree.files() if path.startswith(prefix)}
    ignored = tree.read(image.file(IGNORE_FILE)) if IGNORE_FILE in below else b""
    return not_ignored(_for_the_image(below), ignored)


def not_ignored(paths: Iterable[str], ignore_file: bytes) -> list[str]:
    """The paths that a .dockerignore lets through, in the order given.

    A pattern counts for everything below what it matches, too, and the last one that matches decides. Source:
    https://docs.docker.com/build/concepts/context/#dockerignore-files; in code `MatchesOrParentMatches` of
    https://github.com/moby/patternmatcher. Escapes with a backslash are not supported.
    """
    lines = ignore_file.decode("utf-8-sig", "surrogateescape").split("\n")
    written = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not written:
        return list(paths)
    from docker.utils.build import Pattern  # loads the whole Docker SDK, which few images need here

    # Docker writes a negated class as [^…], its Python SDK as [!…].
    patterns = [pattern for pattern in (Pattern(line.replace("[^", "[!")) for line in written) if pattern.dirs]
    kept = []
    for path in paths:
        way = [path, *(str(folder) for folder in PurePosixPath(path).parents if folder.name)]
        ignored = False
        for pattern in patterns:
            if pattern.exclusion is ignored and any(pattern.match(step) for step in way):
                ignored = not pattern.exclusion
        if not ignored:
            kept.append(path)
    return kept


def _for_the_image(names: Collection[str]) -> list[str]:
    """All files but ours; those of nested image folders are as private as our own."""
    kept = []
    for name in names:
        folder, _, last = name.rpartition("/")
        in_image_folder = (f"{folder}/{DOCKERFILE}" if folder else DOCKERFILE) in names
        is_ours = last == PRIVATE_DOCKERFILE or (last in FACTORY_FILES and in_image_folder)
        if not is_ours and name != IGNORE_FILE and not name.startswith(OWN_PREFIX):
            kept.append(name)
    return sorted(kept)


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


def _folders(paths: Iterable[str]) -> list[str]:
    return sorted({str(folder) for path in paths for folder in PurePosixPath(path).parents if folder.name})


def _member(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    """A header that says nothing of this machine: TarInfo's time, owner and group are 0 and empty."""
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size = kind, mode, size
    return member
