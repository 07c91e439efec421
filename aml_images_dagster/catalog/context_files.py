"""Which files of a repository are in the build context of an image, and which of them its Dockerfile can copy.

The context is what `docker build` would send: everything below its folder, `.dockerignore` honoured, with
`<Dockerfile>.dockerignore` before that of the context, as in BuildKit. Where the context is more than the image's own
folder, only what COPY, ADD and bind mounts name is part of it: BuildKit's client sends no more either
(`FollowPaths` in https://github.com/moby/buildkit/blob/master/frontend/dockerfile/dockerfile2llb/convert.go).

Never in it are the files that speak to the factory (the private part, tests.json, image.json) and `.dockerignore`.
"""

from __future__ import annotations

import posixpath
from functools import cached_property
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile import copy_sources, is_literal, takes
from aml_images_dagster.catalog.ignore_file import IgnoreFile
from aml_images_dagster.catalog.image import FACTORY_FILES, TESTS_FILE
from aml_images_dagster.catalog.layout import IGNORE_SUFFIX, PRIVATE_SUFFIX, is_dockerfile
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from aml_images_dagster.catalog.dockerfile import CopySource
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

IGNORE_FILE = ".dockerignore"
OWN_PREFIX = ".aml-images"
"""What begins with this at the top of a context is ours and left out of it."""

_MAX_LINKS = 40


class ContextFiles:
    """The files in the context of an image. Names are relative to its folder, paths to the repository.

    Args:
        tree: The source.
        image: The image; one whose Dockerfile cannot be read can copy every file.
    """

    def __init__(self, tree: Tree, image: Image) -> None:
        self._tree = tree
        self._prefix = f"{image.context}/" if image.context else ""
        self._folder = image.context
        self._image = image
        own = image.dockerfile_path + IGNORE_SUFFIX
        self.ignore_path = own if own in tree.files() else self._prefix + IGNORE_FILE
        """The .dockerignore that counts, relative to the repository, whether it is there or not."""

    @cached_property
    def sources(self) -> Sequence[CopySource]:
        """What the builder takes from the context: BuildKit only for the stages that the last one is made from."""
        image = self._image
        if image.parsed is None:
            return ()
        every = copy_sources(image.parsed, image.settings.build_args, image.platforms)
        if image.os == "windows":
            return tuple(every)
        return tuple(source for source in every if source.stage in image.parsed.needed_stages)

    @cached_property
    def ignore_fault(self) -> BadInput | None:
        """What is wrong with the .dockerignore; then it leaves out nothing here, and the builder refuses it."""
        return self._ignore[1]

    @cached_property
    def names(self) -> list[str]:
        """The names of the files that the builder gets, sorted."""
        return self._let_through(self._taken)

    @property
    def paths(self) -> list[str]:
        """The paths of the same files."""
        return [self.path(name) for name in self.names]

    def path(self, name: str) -> str:
        """The path of a name."""
        return self._prefix + name

    @cached_property
    def folders(self) -> list[str]:
        """The folders in which the builder gets no file, sorted: everything in them is left out, and they are not."""
        kept = set(self.names)
        lost = self._taken - kept
        full = _folders_of(kept) if lost else set()
        empty = {folder for folder in _folders_of(lost) - full if self._takes(folder)}
        return sorted(folder for folder in empty if not self._ignores(folder))

    @cached_property
    def submodules(self) -> list[str]:
        """The names of submodules that are copied: no tree has what is in them."""
        inside = [path.removeprefix(self._prefix) for path in self._tree.submodules if path.startswith(self._prefix)]
        patterns = [source.pattern for source in self.sources if source.pattern is not None]
        taken = self._followed(patterns) if inside else []
        return sorted(
            name
            for name in inside
            if any(takes(pattern, name) or _leads_through(pattern, name) for pattern in taken)
            and not self._ignores(name)
        )

    def copied(self, pattern: str) -> list[str]:
        """The names of the files that one source copies, sorted; links in it are followed."""
        found = {name for each in self._followed([pattern]) for name in self._matching(each)}
        return self._let_through(found)

    def has(self, pattern: str) -> bool:
        """Whether one source names anything in the context: a file, or a folder in which all files are left out."""
        if not pattern or self.copied(pattern):
            return True
        return any(
            self._tree.below(self._prefix + each) and not self._ignores(each)
            for each in self._followed([pattern])
            if all(map(is_literal, each.split("/")))
        )

    def may_match_nothing(self, pattern: str) -> bool:
        """Whether BuildKit builds although nothing matches a pattern: the folder that it looks in must be there.

        Its client sends the folders only in which something is copied.
        """
        parts = pattern.split("/")
        folder = "/".join(parts[: next(at for at, part in enumerate(parts) if not is_literal(part))])
        if not folder:
            return True
        return self._sent is None or folder in self._sent

    def dangling(self, pattern: str) -> str:
        """A symbolic link for which BuildKit refuses a source, because nothing is sent where it leads; empty without.

        It follows a link that the source names, and for a source with a pattern every link in what that matches.
        """
        if self._sent is None or not self._links:
            return ""
        if all(map(is_literal, pattern.split("/"))):
            return pattern if pattern in self._links and not self._leads_somewhere(pattern, self._sent) else ""
        matched = {name for each in self._followed([pattern], behind=True) for name in self._matching(each)}
        links = self._let_through(matched & self._links.keys())
        return next((link for link in links if not self._leads_somewhere(link, self._sent)), "")

    def _leads_somewhere(self, link: str, sent: Collection[str]) -> bool:
        path = link
        for _ in range(_MAX_LINKS):
            steps = path.split("/")
            above = next((at for at in range(1, len(steps) + 1) if "/".join(steps[:at]) in self._links), None)
            if above is None:
                return not path or path in sent
            target = self._links["/".join(steps[:above])]
            path = posixpath.normpath("/".join(["", target, *steps[above:]])).lstrip("/")
        return False

    @cached_property
    def _sent(self) -> Collection[str] | None:
        """The files and folders that BuildKit's client sends; None when a variable leaves that open."""
        patterns = [source.pattern for source in self.sources]
        if None in patterns:
            return None
        files = {name for each in patterns if each is not None for name in self.copied(each)}
        return files | _folders_of(files) | set(self.folders)

    def includes(self, path: str) -> bool:
        """Whether a file of the repository, which may be deleted by now, is or was one that the builder gets.

        One that is left out counts where it alone makes its folder be there.
        """
        if not path.startswith(self._prefix):
            return False
        name = path.removeprefix(self._prefix)
        if self._takes(name) and self._let_through([name]):
            return True
        return any(
            self._takes(folder)
            and not self._ignores(folder)
            and not any(kept.startswith(f"{folder}/") for kept in self.names)
            for folder in _folders_of([name])
        )

    def _takes(self, name: str) -> bool:
        return self._patterns is None or any(
            takes(pattern, name) or _leads_through(pattern, name) for pattern in self._patterns
        )

    @cached_property
    def _taken(self) -> set[str]:
        """What the Dockerfile names, whether it is left out or not."""
        if self._patterns is None:
            return set(self._all)
        found = {name for pattern in self._patterns for name in self._matching(pattern)}
        return found | {link for link in self._links if any(_leads_through(each, link) for each in self._patterns)}

    @property
    def _all(self) -> Iterable[str]:
        return (path[len(self._prefix) :] for path in self._tree.below(self._folder))

    @cached_property
    def _patterns(self) -> list[str] | None:
        """What the Dockerfile names; None for everything."""
        if self._image.context == self._image.path or self._image.parsed is None:
            return None
        patterns = [source.pattern for source in self.sources]
        if any(pattern is None for pattern in patterns):
            return None
        return self._followed([pattern for pattern in patterns if pattern is not None])

    def _matching(self, pattern: str) -> Iterable[str]:
        """The files that a pattern takes, links not followed."""
        parts = pattern.split("/")
        fixed = "/".join(parts[: next((at for at, part in enumerate(parts) if not is_literal(part)), len(parts))])
        path = self._prefix + fixed if fixed else self._folder
        if path in self._tree.files():
            return [fixed] if fixed == pattern else []
        below = (file[len(self._prefix) :] for file in self._tree.below(path))
        return below if fixed == pattern else (name for name in below if takes(pattern, name))

    @cached_property
    def _links(self) -> dict[str, str]:
        """The symbolic links of the context and where they lead, by names; what leads out of it is left out."""
        links = [path for path in self._tree.links if path.startswith(self._prefix)]
        targets = {}
        for path, content in self._tree.read_many(links):
            name = path.removeprefix(self._prefix)
            # An absolute target begins at the top of the context.
            target = posixpath.join("/", posixpath.dirname(name), content.decode("utf-8", "replace"))
            targets[name] = posixpath.normpath(target).lstrip("/")
        return targets

    def _followed(self, patterns: list[str], *, behind: bool = False) -> list[str]:
        """The patterns, and those that the same files have where links lead; or only those for what is behind links."""
        found = dict.fromkeys(patterns)
        waiting = list(found) if self._tree.links else []
        while waiting and len(found) < len(patterns) + _MAX_LINKS * len(self._links):
            pattern = waiting.pop()
            for link, target in self._links.items():
                if _leads_through(pattern, link):
                    rest = pattern.split("/")[link.count("/") + 1 :]
                    followed = posixpath.normpath("/".join(filter(None, (target, *rest)))) if target or rest else ""
                    if followed not in found and (rest or not behind):
                        found[followed] = None
                        waiting.append(followed)
        return list(found)

    @cached_property
    def _ignore(self) -> tuple[IgnoreFile, BadInput | None]:
        if self.ignore_path not in self._tree.files():
            return IgnoreFile(), None
        try:
            return IgnoreFile(self._tree.read(self.ignore_path), self.ignore_path), None
        except BadInput as error:
            return IgnoreFile(), error

    def _ignores(self, name: str) -> bool:
        return self._ignore[0].ignores(name)

    def _let_through(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are not ours and not ignored, sorted."""
        return sorted(name for name in names if not self._is_ours(name) and not self._ignores(name))

    def _is_ours(self, name: str) -> bool:
        """Whether a file speaks to the factory; those of other image folders are as private as our own."""
        if name == IGNORE_FILE or name.startswith(OWN_PREFIX):
            return True
        folder, _, last = name.rpartition("/")
        if last.endswith(PRIVATE_SUFFIX):
            return is_dockerfile(last.removesuffix(PRIVATE_SUFFIX))
        for file in FACTORY_FILES:
            if last == file or (file == TESTS_FILE and last.startswith("tests.") and last.endswith(".json")):
                prefix = self._prefix + (f"{folder}/" if folder else "")
                beside = (path.removeprefix(prefix) for path in self._tree.below(prefix.rstrip("/")))
                return any("/" not in other and is_dockerfile(other) for other in beside)
            if last.endswith(f".{file}"):
                return is_dockerfile(last.removesuffix(f".{file}"))
        return False


def _folders_of(names: Iterable[str]) -> set[str]:
    """All folders that files are in, below the context."""
    found: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _leads_through(pattern: str, link: str) -> bool:
    """Whether a pattern names a link, or something behind it."""
    parts, steps = pattern.split("/"), link.split("/")
    return len(steps) <= len(parts) and takes("/".join(parts[: len(steps)]), link)
