"""What a pull request makes it necessary to build, found in git's objects alone and within limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.builds.preflight import check_folders
from aml_images_dagster.builds.selection import Selection, with_needed_parents
from aml_images_dagster.builds.session import Source
from aml_images_dagster.builds.source import load_catalogue
from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.catalogue import split_paths
from aml_images_dagster.catalog.context import IGNORE_FILE
from aml_images_dagster.catalog.discovery import discover
from aml_images_dagster.catalog.image import DOCKERFILE, FACTORY_FILES
from aml_images_dagster.catalog.tree import CommitTree
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.catalog.catalogue import Catalogue
    from aml_images_dagster.catalog.git import ChangedFile
    from aml_images_dagster.settings import Settings

_MAX_FACTORY_FILE_BYTES = 1_000_000
_FACTORY_FILES = FACTORY_FILES | {DOCKERFILE, IGNORE_FILE}
_KEPT_CATALOGUES = 8


@dataclass(frozen=True, slots=True)
class Changes:
    """What a pull request changes.

    Attributes:
        selection: What to build, with reasons; empty when it changes no image.
        catalogue: The images as the pull request has them.
        notes: What a person should know besides.
    """

    selection: Selection
    catalogue: Catalogue
    notes: tuple[str, ...]


class ChangeFinder:
    """Compares pull requests with the branch that they go to, as their pages show it.

    Args:
        settings: All settings; those of pull requests have the limits.
        parts: Where parents that a pull request does not touch may be found.
    """

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._settings = settings
        self._parts = parts
        self._catalogues: dict[tuple[str, ...], Catalogue] = {}

    def find(self, target: str, head: str) -> Changes:
        """What a pull request makes it necessary to build.

        Args:
            target: Commit of the target branch.
            head: Commit of the pull request.

        Raises:
            BadInput: It is over a limit, or what it changes cannot be built.
            Unreachable: A registry that may hold a parent does not answer.
        """
        limits, root = self._settings.pull_requests, self._settings.repo
        tree = CommitTree(root, head)
        changed = git.changed_files(root, git.merge_base(root, target, head), head)
        if len(changed) > limits.max_files:
            raise BadInput(
                f"{len(changed)} files are changed, at most {limits.max_files} are looked at",
                mend="Split the pull request; the limit is pull_requests.max_files.",
            )
        _check_sizes(tree, changed, limits.max_context_mb)
        catalogue = self._catalogue(tree)
        found = discover(tree, catalogue, target, fallback=limits.nothing_changed == "all")
        if len(found.images) > limits.max_images:
            raise BadInput(
                f"{len(found.images)} images would have to be built, at most {limits.max_images} are",
                mend="Let a maintainer start the build; the limit is pull_requests.max_images.",
            )
        selection: Selection = {image.id: image.reasons for image in found.images}
        if selection:
            source = Source(tree, catalogue, head, "")
            check_folders(source, selection)
            selection = with_needed_parents(selection, source, self._parts, self._settings)
        notes = [f"{image.family}/{image.name} is removed: nothing to build" for image in found.removed]
        notes += [f"{image} is past its end of life: changed, but not built" for image in found.end_of_life]
        return Changes(selection, catalogue, tuple(notes))

    def _catalogue(self, tree: CommitTree) -> Catalogue:
        """The catalogue of a commit. Most pull requests leave all image folders as another has them."""
        folders = split_paths(self._settings.docker_files_path)
        names = tuple(git.object_name(tree.root, tree.commit, folder) for folder in folders)
        if names not in self._catalogues:
            while len(self._catalogues) >= _KEPT_CATALOGUES:
                del self._catalogues[next(iter(self._catalogues))]
            self._catalogues[names] = load_catalogue(self._settings, tree)
        return self._catalogues[names]


def _check_sizes(tree: CommitTree, changed: Sequence[ChangedFile], max_context_mb: float) -> None:
    """Refuse what is too large before anything reads it into memory."""
    files = tree.files()
    present = [change.path for change in changed if change.path in files]
    sizes = dict(zip(present, git.object_sizes(tree.root, [files[path].oid or "" for path in present]), strict=True))
    for path, size in sizes.items():
        if path.rpartition("/")[2] in _FACTORY_FILES and size > _MAX_FACTORY_FILE_BYTES:
            raise BadInput(
                f"the file has {size / 1e6:.1f} MB, at most {_MAX_FACTORY_FILE_BYTES / 1e6:g} MB are read",
                where=git.printable(path),
                mend="Nobody can review it; make it smaller.",
            )
    total = sum(sizes.values())
    if total > max_context_mb * 1e6:
        largest = max(sizes, key=sizes.__getitem__)
        raise BadInput(
            f"the changed files have {total / 1e6:.0f} MB, at most {max_context_mb:g} MB are built",
            where=f"{git.printable(largest)} with {sizes[largest] / 1e6:.0f} MB",
            mend="Let the Dockerfile download large files; the limit is pull_requests.max_context_mb.",
        )
