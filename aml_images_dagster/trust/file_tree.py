"""The files of an image, as a container sees them: its layers, one over the other.

Source: https://github.com/opencontainers/image-spec/blob/main/layer.md, "Applying Changesets". Where that says nothing
it is what engines do. They extract each layer alone and let overlayfs put them together: a folder of an upper layer
takes the place of a link or a file below it, and only links of the same layer are followed when it is extracted.
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
MOST_OF_DOCUMENTS = 100_000_000
"""Bytes of memory, about, that the documents of one image take."""
_OVERHEAD = 60
"""Bytes of a text beside its characters."""
_PATIENCE = 10_000_000
"""Parts of targets of links that are followed in one image; a real one takes some thousands."""
_MOST_LINKS = 40
"""Links that are followed on the way to one file, as in Linux."""


@dataclass(slots=True, eq=False)
class File:
    """A file.

    Attributes:
        document: What it says; None when it does not list packages.
        is_owned: Whether a package knows it.
    """

    document: Document | None = None
    is_owned: bool = False


@dataclass(slots=True, eq=False)
class Link:
    """A symbolic link.

    Attributes:
        target: What it says.
        layer: Number of its layer; the tree sets it.
    """

    target: str
    layer: int = 0


Folder: TypeAlias = "dict[str, Node]"
Node: TypeAlias = "Folder | File | Link"


class TooManyFiles(Exception):  # noqa: N818
    """An image with more than `MOST_NODES` files and folders."""


class FileTree:
    """The files of an image. Paths begin at its root; `..` does not lead out of it."""

    def __init__(self) -> None:
        self._root: Folder = {}
        self._nodes = 0
        self._layer = 0
        self._patience = _PATIENCE
        self._documents = 0

    def has_room(self, document: Document) -> bool:
        """Whether one more document fits, and then count it."""
        self._documents += sum(map(len, document.files)) + _OVERHEAD * (
            len(document.files) + 10 * len(document.packages)
        )
        self._documents += sum(map(len, document.facts.values()))
        return self._documents <= MOST_OF_DOCUMENTS

    def begin_layer(self) -> None:
        """What comes is of one more layer. What it removes of those below it has to come first."""
        self._layer += 1

    def add_folder(self, path: str) -> None:
        """Add a folder; one that is there stays."""
        folder, name = self._parent(path)
        if name and not isinstance(folder.get(name), dict):
            self._put(folder, name, {})

    def add(self, path: str, node: File | Link) -> None:
        """Add a file or a link, in place of what is there."""
        folder, name = self._parent(path)
        if name:
            if isinstance(node, Link):
                node.layer = self._layer
            self._put(folder, name, node)

    def add_hard_link(self, path: str, target: str) -> None:
        """Give a file one more name."""
        folder, name = self._parent(target)
        node = folder.get(name)
        self.add(
            path,
            Link(node.target) if isinstance(node, Link) else File(node.document if isinstance(node, File) else None),
        )

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a folder with all that is in it."""
        folder, name = self._parent(path)
        folder.pop(name, None)

    def empty(self, path: str) -> None:
        """Remove all that is in a folder."""
        folder, name = self._parent(path)
        node = folder.get(name) if name else self._root
        if isinstance(node, dict):
            node.clear()
        else:
            self._put(folder, name, {})

    def file(self, path: str) -> File | None:
        """The file at a path, links followed; None when there is none."""
        node = self._followed(path)
        return node if isinstance(node, File) else None

    def own(self, paths: Iterable[str]) -> None:
        """Note that a package knows these files, also by way of a folder that is a link."""
        folders: dict[str, Folder | None] = {}
        for path in paths:
            parent, _, name = path.rpartition("/")
            if parent not in folders:
                node = self._followed(parent)
                folders[parent] = node if isinstance(node, dict) else None
            folder = folders[parent]
            node = folder.get(name) if folder else None
            if isinstance(node, File):
                node.is_owned = True

    def own_all(self, path: str) -> bool:
        """Note that something accounts for a file, or for all files of a folder; False when there is neither."""
        node = self._followed(path)
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
        waiting = parts[::-1]
        trail: list[Folder] = []
        folder = self._root
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                folder = trail.pop() if trail else self._root
                continue
            node = folder.get(part)
            if isinstance(node, Link) and node.layer == self._layer and self._may_follow(node, links):
                links += 1
                if node.target.startswith("/"):
                    trail, folder = [], self._root
                waiting += _parts(node.target, up=True)[::-1]
                continue
            if not isinstance(node, dict):
                node = {}
                self._put(folder, part, node)
            trail.append(folder)
            folder = node
        return folder, name

    def _followed(self, path: str) -> Node | None:
        """What is at a path when all links are followed."""
        waiting = _parts(path)[::-1]
        trail: list[Folder] = []
        node: Node = self._root
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                node = trail.pop() if trail else self._root
                continue
            if not isinstance(node, dict) or part not in node:
                return None
            following = node[part]
            if not isinstance(following, Link):
                trail.append(node)
                node = following
            elif self._may_follow(following, links):
                links += 1
                if following.target.startswith("/"):
                    trail, node = [], self._root
                waiting += _parts(following.target, up=True)[::-1]
            else:
                return None
        return node

    def _may_follow(self, link: Link, links: int) -> bool:
        """Whether one more link is followed: they may lead in circles, and many may lead through many."""
        self._patience -= 1 + link.target.count("/")
        return links < _MOST_LINKS and self._patience > 0


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
