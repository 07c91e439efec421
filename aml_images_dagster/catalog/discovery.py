"""Discovery: the images that a change requires to build, each with its reasons."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.catalog import identify, image_folders
from aml_images_dagster.catalog.dependents import with_descendants
from aml_images_dagster.catalog.image import DOCKERFILE
from aml_images_dagster.catalog.scenario_files import scenario_path, scenario_uses
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
        change: The strongest reason: added, modified, tests, descendant, or fallback.
        reasons: All reasons, e.g. `modified: base_images/…/Dockerfile`, `FROM base/debian12`.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    family: str
    path: str
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
        today: The day by which ends of life are judged; default: today in UTC.

    Raises:
        BadInput: No such revision, no common history, no repository.
    """
    root = tree.root
    base_commit = git.resolve(root, base)
    merge_base = git.merge_base(root, base_commit, tree.commit or git.resolve(root, "HEAD"))
    changes = git.changed_files(root, merge_base, tree.commit)

    found = _modified(changes, catalog)
    for image, reasons in _tests(changes, catalog).items():
        change, before = found.get(image, ("tests", []))
        found[image] = (change, before + reasons)
    day = today or datetime.now(UTC).date()
    ended = {image for image in found if catalog.images[image].is_past_end_of_life(day)}
    for image in ended:
        del found[image]
    built, ended_below = with_descendants({image: reasons for image, (_, reasons) in found.items()}, catalog, day)
    ended |= ended_below
    found = {image: (found[image][0] if image in found else "descendant", list(built[image])) for image in built}

    fallback = fallback and not found
    if fallback:
        reason = f"all are selected: no image changed since {merge_base[:12]}"
        found = {image: ("fallback", [reason]) for image in catalog.select_default(day)}
    gone = [change.path for change in changes if change.status == "D"]
    return Discovery(
        base=base_commit,
        head=tree.commit,
        merge_base=merge_base,
        fallback=fallback,
        images=tuple(_selected(catalog.images[image], *found[image]) for image in sorted(found)),
        removed=tuple(_removed(folder, tree) for folder in image_folders(gone, catalog.paths)),
        end_of_life=tuple(sorted(ended)),
    )


def nothing_to_build(merge_base: str) -> str:
    """How it is said that a change touches no image."""
    return f"nothing to build: no image changed since {merge_base[:12]}"


_Found = dict[str, tuple[Change, list[str]]]


def _modified(changes: Sequence[ChangedFile], catalog: Catalog) -> _Found:
    files: dict[str, list[ChangedFile]] = defaultdict(list)
    for change in changes:
        owner = catalog.owner(change.path)
        if owner is not None:
            files[owner.path].append(change)
    found: _Found = {}
    for image in catalog.folders():
        changed = files[image.path]
        if not changed:
            continue
        # git lists the Dockerfile as added exactly when the merge base has none there.
        is_added = any(file.path == image.file(DOCKERFILE) and file.status == "A" for file in changed)
        reasons = [f"{_STATUS_WORDS[file.status]}: {printable_line(file.path)}" for file in changed]
        before = found[image.id][1] if image.id in found else []
        found[image.id] = ("added" if is_added else "modified", before + _shorten(reasons))
    return found


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


def _shorten(reasons: list[str]) -> list[str]:
    if len(reasons) <= _MAX_FILES_NAMED:
        return reasons
    rest = len(reasons) - _MAX_FILES_NAMED + 1
    return [*reasons[: _MAX_FILES_NAMED - 1], f"and {rest} more files"]


def _selected(image: Image, change: Change, reasons: list[str]) -> SelectedImage:
    return SelectedImage(name=image.name, family=image.family, path=image.path, change=change, reasons=tuple(reasons))


def _removed(folder: str, tree: Tree) -> RemovedImage:
    family, name = identify(folder, tree)
    return RemovedImage(name=name, family=family, path=folder)
