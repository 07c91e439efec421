"""The catalog: all image folders of a source tree and what is built FROM what."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.graph import descendants, topological_order
from aml_images_dagster.catalog.image import Image
from aml_images_dagster.catalog.image_folder import LINUX, Draft, read_drafts
from aml_images_dagster.catalog.image_name import full_name
from aml_images_dagster.catalog.layout import Layout, split_paths
from aml_images_dagster.catalog.published import PublishedNames
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.catalog.windows import host_build, is_windows
from aml_images_dagster.errors import BadInput
from aml_images_dagster.messages import lower_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aml_images_dagster.catalog.tree import Tree

Reasons = dict[str, tuple[str, ...]]
"""Images by id, each with why it is built."""

_WINDOWS = "windows/amd64"
_TELL_APART = (
    "Make the paths of their Dockerfiles into different names with the setting image-paths, or rename one of the "
    "folders (variants: give one another name in image.json)."
)


class Catalog:
    """All images of a source tree. `Catalog.load` makes one.

    Attributes:
        images: Every image by id, sorted.
        published: Says which references name images of the catalog.
        published_as: The patterns behind it.
        released_as: How images are named where they are released: in the production registry, and in the public one.
        layout: Where in the repository the images are.
        tests_path: Folder of the training scripts, relative to the repository.
    """

    def __init__(
        self,
        images: Iterable[Image],
        published: PublishedNames,
        published_as: Sequence[str],
        released_as: Sequence[str],
        layout: Layout,
        tests_path: str,
    ) -> None:
        self._all = tuple(
            sorted(images, key=lambda image: (image.id, image.path, image.dockerfile_name, image.variant))
        )
        first_of_each_id: dict[str, Image] = {}
        for image in self._all:
            first_of_each_id.setdefault(image.id, image)
        self.images: Mapping[str, Image] = first_of_each_id
        self.published = published
        self.published_as = tuple(published_as)
        self.released_as = tuple(released_as)
        self.layout = layout
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
        layout: Layout | None = None,
    ) -> Catalog:
        """Read every image folder of a tree.

        What is wrong with a folder becomes a problem of its image and disturbs no other.

        Args:
            tree: The source.
            docker_files_path: Folders that are searched, at any depth, separated by `;`.
            published_as: How images are named when another is FROM them, e.g. `mcr.microsoft.com/azureml/{name}`.
            tests_path: Folder of the training scripts.
            released_as: How images are named where they are released, e.g. `public/azureml/{name}`.
            layout: Where images are; default: in every folder with a Dockerfile below `docker_files_path`.

        Raises:
            BadInput: One of the folders does not exist.
        """
        layout = layout or Layout(split_paths(docker_files_path))
        for path in layout.paths:
            if not tree.may_have(path) or (path and not tree.below(path)):
                raise BadInput(
                    f"there is no folder {path!r} in {_name_of(tree)}",
                    where="docker_files_path",
                    hint="Name another repository with --repo, or the folders of its images: --docker-files-path, or "
                    "docker-files-path of [tool.aml-images] in its pyproject.toml; ';' between them.",
                )
        drafts = read_drafts(tree, layout)
        published = PublishedNames(published_as, [draft.fields for draft in drafts], layout.fields)
        edges = {draft: _edges(draft, published) for draft in drafts}
        windows = _windows_images(edges)
        images = [_finish(draft, edges[draft], windows) for draft in drafts]
        return cls(_mark_duplicates(images), published, published_as, released_as, layout, tests_path)

    def at(self, tree: Tree) -> Catalog:
        """The images of another tree, read in the same way.

        Raises:
            BadInput: One of the folders does not exist there.
        """
        return Catalog.load(
            tree, "", self.published_as, self.tests_path, released_as=self.released_as, layout=self.layout
        )

    def get(self, name: str) -> Image:
        """One image, by id or by a name that only one image has.

        Raises:
            BadInput: There is no such image, or there are several.
        """
        image = self.images.get(name)
        if image is not None:
            if self._count[name] > 1:
                files = [each.dockerfile_path for each in self._all if each.id == name]
                raise BadInput(f"{name} is there twice", where=" and ".join(files), hint=_TELL_APART)
            return image
        absent = f"there is no image {name!r} below {' or '.join(filter(None, self.layout.paths)) or 'the repository'}"
        return self.get(full_name(name, self.images, absent, "`aml-images list` shows all images."))

    @cached_property
    def _count(self) -> Counter[str]:
        """How many images each id has."""
        return Counter(each.id for each in self._all)

    def every_image(self) -> Sequence[Image]:
        """Every image, sorted by id; unlike `images` also those that share an id with another."""
        return self._all

    def order(self, ids: Iterable[str]) -> list[str]:
        """The same images, parents before what is built FROM them, also when that goes through images left out.

        Raises:
            BadInput: Images among these, or that these are FROM, are built FROM each other.
        """
        wanted = set(ids)
        parents = self.parents
        order = topological_order({image: parents.get(image, ()) for image in self.with_ancestors(wanted)})
        return [image for image in order if image in wanted]

    def with_ancestors(self, ids: Iterable[str]) -> set[str]:
        """These images, and everything that they are built FROM, directly or not."""
        parents = self.parents
        found: set[str] = set()
        waiting = list(ids)
        while waiting:
            image = waiting.pop()
            if image not in found:
                found.add(image)
                waiting.extend(parents.get(image, ()))
        return found

    def descendants(self, ids: Iterable[str]) -> set[str]:
        """Everything that is built FROM these images, directly or not, without the images themselves.

        Raises:
            BadInput: Some of them are built FROM each other.
        """
        return set(descendants(self.parents, ids))

    @property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """The FROM and COPY --from edges: each image with those that it names itself."""
        return {image.id: image.parents for image in self.images.values()}

    def with_descendants(self, found: Mapping[str, Sequence[str]], today: date) -> tuple[Reasons, frozenset[str]]:
        """What has to be built along with images: everything that is FROM them, with the reasons of each.

        Args:
            found: Images by id, with their reasons.
            today: The day by which images are past their end of life.

        Returns:
            The images with their descendants, each with its reasons; and descendants that are past their end of life,
            which are not built and end a chain.
        """
        children = defaultdict(list)
        for image, its_parents in self.parents.items():
            for parent in its_parents:
                children[parent].append(image)
        selected, ended = set(found), set()
        waiting = list(found)
        while waiting:
            for child in children[waiting.pop()]:
                if child in selected:
                    continue
                if self.images[child].is_past_end_of_life(today):
                    ended.add(child)
                else:
                    selected.add(child)
                    waiting.append(child)
        reasons = {
            image: (*found.get(image, ()), *(f"FROM {parent}" for parent in self.parents[image] if parent in selected))
            for image in sorted(selected)
        }
        return reasons, frozenset(ended)

    def select_default(self, today: date | None = None) -> list[str]:
        """All images that are not past their end of life, sorted.

        Args:
            today: The day by which images are past their end of life; default: today in UTC.
        """
        day = today or datetime.now(UTC).date()
        return [image.id for image in self.images.values() if not image.is_past_end_of_life(day)]


@dataclass(frozen=True)
class _Edges:
    parents: tuple[str, ...]
    bases: tuple[str, ...]
    releases: tuple[str, ...]
    from_ours: tuple[str, ...]
    from_windows: bool
    host_build: str | None
    problems: tuple[Finding, ...]


def _edges(draft: Draft, published: PublishedNames) -> _Edges:
    parents: list[str] = []
    bases: list[str] = []
    releases: list[str] = []
    from_ours: list[str] = []
    windows: list[Reference] = []
    problems = []
    for use in draft.dockerfile.uses if draft.dockerfile else ():
        try:
            parent, released = published.resolve(use.reference), published.release(use.reference)
        except BadInput as error:  # several images are published under this name
            message = f"{error.what}; {lower_first(error.hint)}"
            problems.append(Finding(draft.id, "error", message, draft.place.dockerfile_path, use.line))
            continue
        ours = parent or released
        if use.kind == "from" and ours:
            from_ours.append(ours)
        if parent:
            parents.append(parent)
            continue
        bases.append(use.reference)
        if released:
            releases.append(use.reference)
        else:
            reference = Reference.parse(use.reference)
            if use.kind == "from" and is_windows(reference):
                windows.append(reference)
    return _Edges(
        tuple(dict.fromkeys(parents)),
        tuple(dict.fromkeys(bases)),
        tuple(dict.fromkeys(releases)),
        tuple(from_ours),
        bool(windows),
        next(filter(None, map(host_build, windows)), None),
        tuple(problems),
    )


def _windows_images(edges: Mapping[Draft, _Edges]) -> dict[str, str | None]:
    """Images with a Windows base, also through other images, and the OS build that their host must have."""
    children = defaultdict(set)
    for draft, edge in edges.items():
        for parent in edge.from_ours:
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


def _finish(draft: Draft, edges: _Edges, windows: Mapping[str, str | None]) -> Image:
    in_dockerfile = draft.dockerfile.platform if draft.dockerfile else ""
    default = draft.settings.platform or in_dockerfile or (_WINDOWS if draft.id in windows else LINUX)
    platforms = draft.settings.platforms or (default,)
    platform = platforms[0]
    os: Literal["linux", "windows"] = "windows" if platform.startswith("windows/") else "linux"
    return Image(
        family=draft.family,
        name=draft.name,
        path=draft.place.folder,
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
        dockerfile_name=draft.place.dockerfile,
        variant=draft.variant,
        platforms=platforms,
        context=draft.context,
        settings_path=draft.settings_path,
        tests_path=draft.tests_path,
        releases=edges.releases,
    )


def _mark_duplicates(images: Sequence[Image]) -> list[Image]:
    alike = defaultdict(list)
    for image in images:
        alike[image.id].append(image)
    marked = []
    for image in images:
        others = [other.dockerfile_path for other in alike[image.id] if other is not image]
        if others:
            message = f"{', '.join(others)} has the same family and name; {lower_first(_TELL_APART)}"
            finding = Finding(image.id, "error", message, image.dockerfile_path)
            marked.append(replace(image, problems=(*image.problems, finding)))
        else:
            marked.append(image)
    return marked


def _name_of(tree: Tree) -> str:
    return f"commit {tree.commit[:12]}" if tree.commit else str(tree.root)
