"""Discovery: the images that a change requires to build, each with its reasons."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.context_files import ContextFiles
from aml_images_dagster.catalog.image import IMAGE_FILE
from aml_images_dagster.catalog.image_file import ImageFile
from aml_images_dagster.catalog.layout import IGNORE_SUFFIX
from aml_images_dagster.catalog.tests_file import scenario_path, scenario_uses
from aml_images_dagster.catalog.tree import CommitTree
from aml_images_dagster.catalog.validated_file import read_model_file
from aml_images_dagster.errors import BadInput
from aml_images_dagster.text import printable_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.git import ChangedFile
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

Change = Literal["added", "modified", "tests", "descendant", "fallback"]

_MAX_FILES_NAMED = 8
_STATUS_WORDS = {"A": "added", "D": "deleted", "M": "modified", "T": "type changed"}


class SelectedImage(BaseModel):
    """An image to build.

    Attributes:
        name: Image name.
        family: Name of the family.
        path: The image folder, relative to the repository.
        variant: Which of the variants of that folder it is; empty when the folder has one image.
        change: The strongest reason: added, modified, tests, descendant, or fallback.
        reasons: All reasons, e.g. `modified: base_images/…/Dockerfile`, `FROM base/debian12`.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    family: str
    path: str
    variant: str = ""
    change: Change
    reasons: tuple[str, ...]

    @property
    def id(self) -> str:
        """`<family>/<name>`."""
        return f"{self.family}/{self.name}"


class RemovedImage(BaseModel):
    """An image folder that is there at the merge base and no more at the head.

    Attributes:
        name: Image name.
        family: Name of the family.
        path: Where the folder was, relative to the repository.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    family: str
    path: str


class Discovery(BaseModel):
    """What `discover` found. `model_dump(mode="json")` is what `discover --json` prints.

    Attributes:
        base: The commit that was compared with.
        head: The commit whose images they are; None for the working tree.
        merge_base: Where the head left the base: changes since then count.
        fallback: No image to build was found, so all are selected.
        images: What to build, sorted by id.
        removed: Image folders that are gone; there is nothing to build.
        end_of_life: Images that a change touched, by id, but that are past their end of life: not selected.
    """

    model_config = ConfigDict(frozen=True)

    base: str
    head: str | None
    merge_base: str
    fallback: bool
    images: tuple[SelectedImage, ...]
    removed: tuple[RemovedImage, ...]
    end_of_life: tuple[str, ...]


def discover(tree: Tree, catalog: Catalog, base: str, *, fallback: bool = True, today: date | None = None) -> Discovery:
    """Find the images that the changes since `base` touch, and everything built FROM them.

    A three-dot diff: what the head changed since it left the base, as a pull request shows it. With the tree of a
    commit only git's objects are read; with a working tree its uncommitted and untracked files count as well.

    Args:
        tree: The source; the head is its commit.
        catalog: The catalog of that tree.
        base: Branch, tag or commit to compare with.
        fallback: Select all images when no image to build is found.
        today: The day by which images are past their end of life; default: today in UTC.

    Raises:
        BadInput: No such revision, no common history, no repository.
    """
    root = tree.root
    base_commit = git.resolve(root, base)
    merge_base = git.merge_base(root, base_commit, tree.commit or git.resolve(root, "HEAD"))
    changes = git.changed_files(root, merge_base, tree.commit)

    found = _Changed(tree, catalog, merge_base).by(changes)
    for image, reasons in _tests(changes, catalog).items():
        change, before = found.get(image, ("tests", []))
        found[image] = (change, before + reasons)
    for image, reasons in _orphans(tree, catalog, merge_base, changes).items():
        change, before = found.get(image, ("descendant", []))
        found[image] = (change, before + reasons)
    day = today or datetime.now(UTC).date()
    ended = {image for image in found if catalog.images[image].is_past_end_of_life(day)}
    for image in ended:
        del found[image]
    built, ended_below = catalog.with_descendants({image: reasons for image, (_, reasons) in found.items()}, day)
    ended |= ended_below
    found = {image: (found[image][0] if image in found else "descendant", list(built[image])) for image in built}
    gone = [change.path for change in changes if change.status == "D"]
    removed = catalog.layout.places(gone, root)

    fallback = fallback and not found and not removed
    if fallback:
        reason = f"all are selected: no image changed since {merge_base[:12]}"
        found = {image: ("fallback", [reason]) for image in catalog.select_default(day)}
    return Discovery(
        base=base_commit,
        head=tree.commit,
        merge_base=merge_base,
        fallback=fallback,
        images=tuple(_selected(catalog.images[image], *found[image]) for image in sorted(found)),
        removed=tuple(RemovedImage(name=place.name, family=place.family, path=place.folder) for place in removed),
        end_of_life=tuple(sorted(ended)),
    )


def nothing_to_build(merge_base: str) -> str:
    """How it is said that a change touches no image."""
    return f"nothing to build: no image changed since {merge_base[:12]}"


_Found = dict[str, tuple[Change, list[str]]]


class _Changed:
    """The images that changed files belong to.

    A file in an image folder belongs to the images of that folder, the innermost one above it; a Dockerfile with its
    private part, tests.json and image.json to those images alone that have it. And a file belongs to every image
    whose Dockerfile can copy it.
    """

    def __init__(self, tree: Tree, catalog: Catalog, merge_base: str) -> None:
        self._tree = tree
        self._merge_base = merge_base
        self._in_folder: dict[str, list[Image]] = defaultdict(list)
        self._by_context: dict[str, list[Image]] = defaultdict(list)
        for image in catalog.every_image():
            self._in_folder[image.path].append(image)
            self._by_context[image.context].append(image)
        self._contexts: dict[int, ContextFiles] = {}
        self._settings: dict[str, tuple[ImageFile | None, ImageFile | None]] = {}
        """Every image.json asked for, at the merge base and now."""

    def by(self, changes: Sequence[ChangedFile]) -> _Found:
        """The images that changes modify or add, each with its reasons."""
        files: dict[int, list[ChangedFile]] = defaultdict(list)
        touched: dict[int, Image] = {}
        for change in changes:
            for image in self._images(change):
                files[id(image)].append(change)
                touched[id(image)] = image
        found: _Found = {}
        for image in sorted(touched.values(), key=lambda image: image.id):
            changed = files[id(image)]
            is_added = self._is_added(image, changed)
            reasons = [f"{_STATUS_WORDS[file.status]}: {printable_line(file.path)}" for file in changed]
            before = found[image.id][1] if image.id in found else []
            found[image.id] = ("added" if is_added else "modified", before + _shorten(reasons))
        return found

    def _images(self, change: ChangedFile) -> list[Image]:
        folders = _folders_above(change.path)
        images: dict[int, Image] = {}
        innermost = next((folder for folder in folders if folder in self._in_folder), None)
        if innermost is not None:
            images = {id(image): image for image in self._owners(change.path, self._in_folder[innermost])}
        for folder in folders:
            for image in self._by_context.get(folder, ()):
                if image.path != innermost and id(image) not in images and self._can_copy(image, change.path):
                    images[id(image)] = image
        return [image for image in images.values() if self._is_touched(image, change)]

    def _owners(self, path: str, images: Sequence[Image]) -> list[Image]:
        """Those of the images of a folder that a file of the folder belongs to."""
        own = [image for image in images if path in _own_files(image)]
        if own or len(images) == 1:
            return own or list(images)
        return [image for image in images if image.context == image.path or self._can_copy(image, path)]

    def _can_copy(self, image: Image, path: str) -> bool:
        if id(image) not in self._contexts:
            self._contexts[id(image)] = ContextFiles(self._tree, image)
        files = self._contexts[id(image)]
        return path == files.ignore_path or files.includes(path)

    def _is_added(self, image: Image, changes: Sequence[ChangedFile]) -> bool:
        """Whether the merge base has no such image: no Dockerfile there, or no such variant in its image.json."""
        # git lists the Dockerfile as added exactly when the merge base has none there.
        if any(change.path == image.dockerfile_path and change.status == "A" for change in changes):
            return True
        before, _ = self._image_files(image.settings_path) if image.variant else (None, None)
        return before is not None and image.variant not in before.variants

    def _is_touched(self, image: Image, change: ChangedFile) -> bool:
        """Whether a change of an image.json with variants says anything else of this one."""
        if not image.variant or change.path != image.settings_path or change.status != "M":
            return True
        before, now = (
            (settings.of_variant(image.variant), settings.variants[image.variant])
            if settings and image.variant in settings.variants
            else None
            for settings in self._image_files(change.path)
        )
        return before != now

    def _image_files(self, path: str) -> tuple[ImageFile | None, ImageFile | None]:
        """An image.json at the merge base, and now; None where it is not there, or wrong."""
        if path not in self._settings:
            before, now = (
                _image_file(tree, path) for tree in (CommitTree(self._tree.root, self._merge_base, [path]), self._tree)
            )
            self._settings[path] = (before, now)
        return self._settings[path]


def _image_file(tree: Tree, path: str) -> ImageFile | None:
    try:
        return read_model_file(ImageFile, tree.read(path), path)[0] if path in tree.files() else None
    except BadInput:
        return None


def _folders_above(path: str) -> list[str]:
    """The folders that a file is in, the innermost first; the repository is an empty text."""
    folders = []
    while path:
        path = path.rpartition("/")[0]
        folders.append(path)
    return folders


def _own_files(image: Image) -> tuple[str, ...]:
    path = image.dockerfile_path
    return (path, image.private_path, path + IGNORE_SUFFIX, image.tests_path, image.settings_path)


def _tests(changes: Sequence[ChangedFile], catalog: Catalog) -> dict[str, list[str]]:
    used: dict[tuple[str, str], list[str]] = {}
    found: dict[str, list[str]] = defaultdict(list)
    for image in catalog.images.values():
        for scenario in image.tests.scenarios if image.tests else ():
            code = (scenario.kind, scenario_path(scenario, catalog.tests_path))
            if code not in used:
                paths = (change.path for change in changes)
                used[code] = [path for path in paths if scenario_uses(scenario, path, catalog.tests_path)]
            if used[code]:
                found[image.id] += _shorten(
                    [f"tests: {printable_line(path)} (scenario {scenario.name})" for path in used[code]]
                )
    return found


def _orphans(tree: Tree, catalog: Catalog, merge_base: str, changes: Sequence[ChangedFile]) -> dict[str, list[str]]:
    """Images that were FROM an image that is gone, or has another name now, each with its reasons."""
    names = {change.path.rpartition("/")[2] for change in changes if change.status != "A"}
    if not any(catalog.layout.is_dockerfile(name) or name.endswith(IMAGE_FILE) for name in names):
        return {}
    try:
        before = catalog.at(CommitTree(tree.root, merge_base))
    except BadInput:  # a folder that is searched was not there
        return {}
    found: dict[str, list[str]] = {}
    for image, parents in before.parents.items():
        gone = [parent for parent in parents if parent not in catalog.images]
        if gone and image in catalog.images:
            found[image] = [f"FROM {parent}, which is gone" for parent in gone]
    return found


def _shorten(reasons: list[str]) -> list[str]:
    if len(reasons) <= _MAX_FILES_NAMED:
        return reasons
    rest = len(reasons) - _MAX_FILES_NAMED + 1
    return [*reasons[: _MAX_FILES_NAMED - 1], f"and {rest} more files"]


def _selected(image: Image, change: Change, reasons: list[str]) -> SelectedImage:
    return SelectedImage(
        name=image.name,
        family=image.family,
        path=image.path,
        variant=image.variant,
        change=change,
        reasons=tuple(reasons),
    )
