"""The files of an image, as extracting its layers one after the other makes them.

Source: https://github.com/opencontainers/image-spec/blob/main/layer.md, "Applying Changesets". Where that says nothing,
of a parent that is a link and of a folder in place of a file, it is what containerd does:
https://github.com/containerd/containerd/blob/main/pkg/archive/tar.go.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aml_images_dagster.trust.packages import Document

MOST_NODES = 600_000
"""Files and folders of one image that are kept."""
LONGEST_PATH = 4096
"""Characters of a path, as in Linux."""
_MOST_LINKS = 40
"""Links that are followed on the way to a file, as in Linux."""


@dataclass(slots=True, eq=False)
class File:
    """A file.

    Attributes:
        document: What it tells; None when it does not tell of packages.
        is_owned: Whether a package knows it.
    """

    document: Document | None = None
    is_owned: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link.

    Attributes:
        target: What it says.
    """

    target: str


Folder: TypeAlias = "dict[str, Node]"
Node: TypeAlias = "Folder | File | Link"


class TooManyFiles(Exception):  # noqa: N818
    """An image with more than `MOST_NODES` files and folders."""


class FileTree:
    """The files of an image. Paths begin at its root; `..` does not lead out of it."""

    def __init__(self) -> None:
        self._root: Folder = {}
        self._nodes = 0

    def add_folder(self, path: str) -> None:
        """Add a folder; one that is there stays."""
        folder, name = self._parent(path)
        if name and not isinstance(folder.get(name), dict):
            self._put(folder, name, {})

    def add(self, path: str, node: File | Link) -> None:
        """Add a file or a link, in place of what is there."""
        folder, name = self._parent(path)
        if name:
            self._put(folder, name, node)

    def add_hard_link(self, path: str, target: str) -> None:
        """Give a file one more name."""
        node = self._found(target)
        if isinstance(node, Link):
            self.add(path, node)
        else:
            self.add(path, File(node.document if isinstance(node, File) else None))

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a folder with all that is in it."""
        found = self._existing_parent(path)
        if found:
            folder, name = found
            folder.pop(name, None)

    def empty(self, path: str) -> None:
        """Remove all that is in a folder."""
        node = self._found(path) if path else self._root
        if isinstance(node, dict):
            node.clear()

    def file(self, path: str) -> File | None:
        """The file at a path, links followed; None when there is none."""
        path, node = self._followed(path)
        return node if isinstance(node, File) else None

    def own(self, paths: Iterable[str]) -> None:
        """Note that a package knows these files, also by way of a folder that is a link."""
        folders: dict[str, Folder | None] = {}
        for path in paths:
            parent, _, name = path.rpartition("/")
            if parent not in folders:
                node = self._followed(parent)[1] if parent else self._root
                folders[parent] = node if isinstance(node, dict) else None
            folder = folders[parent]
            node = folder.get(name) if folder else None
            if isinstance(node, File):
                node.is_owned = True

    def own_all(self, path: str) -> bool:
        """Note that something accounts for a file, or for all files of a folder; False when there is neither."""
        _, node = self._followed(path)
        if node is None or isinstance(node, Link):
            return False
        for _, each in _below(node, ""):
            if isinstance(each, File):
                each.is_owned = True
        return True

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """Every file, link and folder, each folder before what is in it, in the order of names."""
        return _below(self._root, "")

    def _put(self, folder: Folder, name: str, node: Node) -> None:
        if name not in folder:
            # What is removed again still counts: an image may not make work without end.
            self._nodes += 1
            if self._nodes > MOST_NODES:
                raise TooManyFiles
        # Names such as METADATA and __init__.py come thousands of times.
        folder[sys.intern(name)] = node

    def _parent(self, path: str) -> tuple[Folder, str]:
        """The folder of a path, made where it is missing, and the last part of the path."""
        *parts, name = _parts(path) or [""]
        folder = self._root
        trail: list[str] = []
        for part in parts:
            node = folder.get(part)
            trail.append(part)
            if isinstance(node, Link):
                real, node = self._followed("/".join(trail))
                trail = real.split("/") if node is not None else trail
            if not isinstance(node, dict):
                node = {}
                self._put(folder, part, node)
            folder = node
        return folder, name

    def _existing_parent(self, path: str) -> tuple[Folder, str] | None:
        *parts, name = _parts(path) or [""]
        node = self._followed("/".join(parts))[1] if parts else self._root
        return (node, name) if isinstance(node, dict) else None

    def _found(self, path: str) -> Node | None:
        """What is at a path itself: a link at its end is not followed."""
        found = self._existing_parent(path)
        return found[0].get(found[1]) if found else None

    def _followed(self, path: str) -> tuple[str, Node | None]:
        """Where a path leads when all links are followed, and what is there."""
        waiting = _parts(path)[::-1]
        trail: list[tuple[str, Folder]] = []
        node: Node = self._root
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                node = trail.pop()[1] if trail else self._root
                continue
            if not isinstance(node, dict) or part not in node:
                return "", None
            following = node[part]
            if isinstance(following, Link):
                links += 1
                if links > _MOST_LINKS:
                    return "", None
                if following.target.startswith("/"):
                    trail, node = [], self._root
                waiting += _parts(following.target, up=True)[::-1]
            else:
                trail.append((part, node))
                node = following
        return "/".join(name for name, _ in trail), node


def _parts(path: str, *, up: bool = False) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if up or ".." not in parts:
        return parts
    real: list[str] = []
    for part in parts:
        if part != "..":
            real.append(part)
        elif real:
            real.pop()
    return real


def _below(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """A node and what is in it; without recursion, which a deep tree would exhaust."""
    waiting = [(path, node)]
    while waiting:
        path, node = waiting.pop()
        if path or not isinstance(node, dict):
            yield path, node
        if isinstance(node, dict):
            waiting += [(f"{path}/{name}" if path else name, node[name]) for name in sorted(node, reverse=True)]
