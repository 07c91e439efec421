"""The catalog: all image folders of a source tree and what is built FROM what."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.catalog.dockerfile import Dockerfile, parse_combined
from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.graph import descendants, topological_order
from aml_images_dagster.catalog.image import DOCKERFILE, IMAGE_FILE, PRIVATE_DOCKERFILE, TESTS_FILE, Image
from aml_images_dagster.catalog.image_file import ImageFile
from aml_images_dagster.catalog.image_name import full_name
from aml_images_dagster.catalog.model_file import read_model_file
from aml_images_dagster.catalog.published import PublishedNames
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.catalog.tests_file import TestPlan
from aml_images_dagster.catalog.tree import FileEntry, FileMode, Tree
from aml_images_dagster.catalog.windows import host_build, is_windows
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_LINUX = "linux/amd64"
_WINDOWS = "windows/amd64"
_READ_FILES = (DOCKERFILE, PRIVATE_DOCKERFILE, TESTS_FILE, IMAGE_FILE)


class Catalog:
    """All images of a source tree. `Catalog.load` makes one.

    Attributes:
        images: Every image by id, sorted.
        published: Tells which references name images of the catalog.
        published_as: The patterns behind it.
        released_as: How images are named where they are released: in the production registry, and in the public one.
        paths: The folders that were searched, relative to the repository.
        tests_path: Folder of the training scripts, relative to the repository.
    """

    def __init__(
        self,
        images: Iterable[Image],
        published: PublishedNames,
        published_as: Sequence[str],
        released_as: Sequence[str],
        paths: tuple[str, ...],
        tests_path: str,
    ) -> None:
        by_id = sorted(images, key=lambda image: (image.id, image.path))
        self._folders = {image.path: image for image in by_id}
        first_of_each_id: dict[str, Image] = {}
        for image in by_id:
            first_of_each_id.setdefault(image.id, image)
        self.images: Mapping[str, Image] = first_of_each_id
        self.published = published
        self.published_as = tuple(published_as)
        self.released_as = tuple(released_as)
        self.paths = paths
        self.tests_path = tests_path

    @classmethod
    def load(
        cls,
        tree: Tree,
        docker_files_path: str,
        published_as: Sequence[str],
        tests_path: str = "base_images/tests",
        *,
        released_as: Sequence[str] = (),
    ) -> Catalog:
        """Read every image folder of a tree.

        What is wrong with a folder becomes a problem of its image and disturbs no other.

        Args:
            tree: The source.
            docker_files_path: Folders that are searched, at any depth, separated by `;`.
            published_as: How images are named when another is FROM them, e.g. `mcr.microsoft.com/azureml/{name}`.
            tests_path: Folder of the training scripts.
            released_as: How images are named where they are released, e.g. `public/azureml/{name}`.

        Raises:
            BadInput: One of the folders does not exist.
        """
        paths = split_paths(docker_files_path)
        for path in paths:
            if not tree.may_have(path) or (path and not any(file.startswith(f"{path}/") for file in tree.files())):
                raise BadInput(
                    f"there is no folder {path!r} in {_name_of(tree)}",
                    where="docker_files_path",
                    hint="Name another repository with --repo, or its folders with --docker-files-path, between ';'.",
                )
        files = tree.files()
        drafts = _read_drafts(tree, files, paths)
        published = PublishedNames(published_as, [(draft.family, draft.name) for draft in drafts])
        edges = {draft: _edges(draft, published) for draft in drafts}
        windows = _windows_images(edges)
        images = [_finish(draft, edges[draft], windows) for draft in drafts]
        return cls(_mark_duplicates(images), published, published_as, released_as, paths, tests_path)

    def get(self, name: str) -> Image:
        """One image, by id or by a name that only one image has.

        Raises:
            BadInput: There is no such image, or there are several.
        """
        image = self.images.get(name)
        if image is not None:
            if self._folders_of[name] > 1:
                folders = [each.path for each in self._folders.values() if each.id == name]
                raise BadInput(f"{name} is there twice", where=" and ".join(folders), hint="Rename one of the folders.")
            return image
        absent = f"there is no image {name!r} below {' or '.join(self.paths) or 'the repository'}"
        return self.get(full_name(name, self.images, absent, "`aml-images list` shows all images."))

    @cached_property
    def _folders_of(self) -> Counter[str]:
        """How many folders each id has."""
        return Counter(each.id for each in self._folders.values())

    def folders(self) -> Sequence[Image]:
        """Every image folder, sorted by id; unlike `images` also those that share an id with another."""
        return tuple(self._folders.values())

    def owner(self, path: str) -> Image | None:
        """The image that a file belongs to: the innermost image folder above it."""
        for folder in PurePosixPath(path).parents:
            image = self._folders.get("" if str(folder) == "." else str(folder))
            if image is not None:
                return image
        return None

    def order(self, ids: Iterable[str]) -> list[str]:
        """The same images, parents before what is built FROM them, also when that goes through images left out.

        Raises:
            BadInput: Images are built FROM each other.
        """
        wanted = set(ids)
        return [image for image in topological_order(self.parents) if image in wanted]

    def descendants(self, ids: Iterable[str]) -> set[str]:
        """Everything that is built FROM these images, directly or not, without the images themselves.

        Raises:
            BadInput: Images are built FROM each other.
        """
        return set(descendants(self.parents, ids))

    @property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """The FROM and COPY --from edges: each image with those that it names itself."""
        return {image.id: image.parents for image in self.images.values()}

    def select_default(self, today: date | None = None) -> list[str]:
        """All images that are not past their end of life, sorted.

        Args:
            today: The day to judge by; default: today in UTC.
        """
        day = today or datetime.now(UTC).date()
        return [image.id for image in self.images.values() if not image.is_past_end_of_life(day)]


def split_paths(docker_files_path: str) -> tuple[str, ...]:
    """The folders of a `docker_files_path`, relative to the repository; the repository itself is an empty text.

    Raises:
        BadInput: One of them is absolute or leaves the repository, or there is none.
    """
    paths = []
    for part in filter(None, (part.strip() for part in docker_files_path.split(";"))):
        path = PurePosixPath(part.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", part):
            raise BadInput(
                f"{part!r} is no folder of the repository",
                where="docker_files_path",
                hint="Write folders relative to the root of the repository.",
            )
        paths.append("" if str(path) == "." else str(path))
    if not paths:
        raise BadInput(
            "docker_files_path is empty",
            where="docker_files_path",
            hint="Name the folder that holds the image folders.",
        )
    return tuple(dict.fromkeys(paths))


def image_folders(files: Iterable[str], paths: Collection[str]) -> list[str]:
    """The folders with a Dockerfile at or below the given folders, sorted."""
    found = []
    for file in files:
        folder, _, name = file.rpartition("/")
        if name == DOCKERFILE and any(not path or folder == path or folder.startswith(f"{path}/") for path in paths):
            found.append(folder)
    return sorted(found)


def identify(folder: str, tree: Tree) -> tuple[str, str]:
    """Family and name of an image folder. At the top of the repository its own folder's name lends itself."""
    parts = PurePosixPath(folder).parts
    if len(parts) < 2:
        root = tree.root.resolve()
        parts = (root.parent.name, root.name, *parts)
    return parts[-2], parts[-1]


@dataclass(frozen=True, eq=False)
class _Draft:
    """An image folder before the edges are known."""

    family: str
    name: str
    path: str
    dockerfile: Dockerfile | None
    settings: ImageFile
    tests: TestPlan | None
    problems: tuple[Finding, ...]
    public_lines: int | None

    @property
    def id(self) -> str:
        return f"{self.family}/{self.name}"


@dataclass(frozen=True)
class _Edges:
    parents: tuple[str, ...]
    bases: tuple[str, ...]
    from_parents: tuple[str, ...]
    from_windows: bool
    host_build: str | None
    problems: tuple[Finding, ...]


def _read_drafts(tree: Tree, files: Mapping[str, FileEntry], paths: Collection[str]) -> list[_Draft]:
    folders = image_folders(files, paths)
    candidates = (f"{folder}/{name}" if folder else name for folder in folders for name in _READ_FILES)
    contents = dict(tree.read_many(path for path in candidates if path in files))
    return [_read_draft(tree, folder, files, contents) for folder in folders]


def _read_draft(tree: Tree, folder: str, files: Mapping[str, FileEntry], contents: Mapping[str, bytes]) -> _Draft:
    family, name = identify(folder, tree)
    image = f"{family}/{name}"
    dockerfile_path, private_path, tests_path, settings_path = (
        f"{folder}/{file}" if folder else file for file in _READ_FILES
    )
    problems = [
        Finding(image, "error", "a symbolic link is not allowed here; put the file itself", path)
        for path in (dockerfile_path, private_path, tests_path, settings_path)
        if path in contents and files[path].mode is FileMode.SYMLINK
    ]
    settings = ImageFile()
    if settings_path in contents:
        read, faults = read_model_file(ImageFile, contents[settings_path], settings_path, image=image)
        settings = read or settings
        problems.extend(faults)
    tests = None
    if tests_path in contents:
        tests, faults = read_model_file(TestPlan, contents[tests_path], tests_path, image=image)
        problems.extend(faults)
    dockerfile = None
    try:
        dockerfile = parse_combined(
            contents[dockerfile_path],
            contents.get(private_path),
            settings.build_args,
            dockerfile_path,
            platform=settings.platform or _LINUX,
        )
    except BadInput as error:
        problems.append(_as_finding(error, image, dockerfile_path))
    public = contents[dockerfile_path]
    public_lines = public.count(b"\n") + (not public.endswith(b"\n")) if private_path in contents else None
    return _Draft(family, name, folder, dockerfile, settings, tests, tuple(problems), public_lines)


def _as_finding(error: BadInput, image: str, path: str) -> Finding:
    place = re.fullmatch(r"(?P<path>.*?)(?::(?P<line>\d+))?", error.where, re.DOTALL)
    message = f"{error.what}; {_lower(error.hint)}" if error.hint else error.what
    if place is None or not place["path"]:
        return Finding(image, "error", message, path)
    return Finding(image, "error", message, place["path"], int(place["line"]) if place["line"] else None)


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _edges(draft: _Draft, published: PublishedNames) -> _Edges:
    parents: list[str] = []
    bases: list[str] = []
    from_parents: list[str] = []
    windows: list[Reference] = []
    problems = []
    for use in draft.dockerfile.uses if draft.dockerfile else ():
        try:
            parent = published.resolve(use.reference)
        except BadInput as error:  # several images are published under this name
            message = f"{error.what}; {_lower(error.hint)}"
            problems.append(Finding(draft.id, "error", message, f"{draft.path}/{DOCKERFILE}", use.line))
            continue
        if parent is None:
            bases.append(use.reference)
            reference = Reference.parse(use.reference)
            if use.kind == "from" and is_windows(reference):
                windows.append(reference)
        else:
            parents.append(parent)
            if use.kind == "from":
                from_parents.append(parent)
    return _Edges(
        tuple(dict.fromkeys(parents)),
        tuple(dict.fromkeys(bases)),
        tuple(from_parents),
        bool(windows),
        next(filter(None, map(host_build, windows)), None),
        tuple(problems),
    )


def _windows_images(edges: Mapping[_Draft, _Edges]) -> dict[str, str | None]:
    """Images with a Windows base, also through other images, and the OS build that their host must have."""
    children = defaultdict(set)
    for draft, edge in edges.items():
        for parent in edge.from_parents:
            children[parent].add(draft.id)
    found = {draft.id: edge.host_build for draft, edge in edges.items() if edge.from_windows}
    waiting = list(found)
    while waiting:
        parent = waiting.pop()
        for child in children[parent]:
            if child not in found:
                found[child] = found[parent]
                waiting.append(child)
    return found


def _finish(draft: _Draft, edges: _Edges, windows: Mapping[str, str | None]) -> Image:
    in_dockerfile = draft.dockerfile.platform if draft.dockerfile else ""
    platform = draft.settings.platform or in_dockerfile or (_WINDOWS if draft.id in windows else _LINUX)
    os: Literal["linux", "windows"] = "windows" if platform.startswith("windows/") else "linux"
    return Image(
        family=draft.family,
        name=draft.name,
        path=draft.path,
        os=os,
        platform=platform,
        parsed=draft.dockerfile,
        parents=edges.parents,
        bases=edges.bases,
        settings=draft.settings,
        tests=draft.tests,
        problems=draft.problems + edges.problems,
        public_lines=draft.public_lines,
        has_windows_base=draft.id in windows,
        host_build=windows.get(draft.id),
    )


def _mark_duplicates(images: Sequence[Image]) -> list[Image]:
    folders = defaultdict(list)
    for image in images:
        folders[image.id].append(image.path)
    marked = []
    for image in images:
        others = [path for path in folders[image.id] if path != image.path]
        if others:
            message = f"{', '.join(others)} has the same family and name; rename one of the folders"
            finding = Finding(image.id, "error", message, image.path)
            marked.append(replace(image, problems=(*image.problems, finding)))
        else:
            marked.append(image)
    return marked


def _name_of(tree: Tree) -> str:
    return f"commit {tree.commit[:12]}" if tree.commit else str(tree.root)
