"""Reading the files of an image folder, before it is known what is built FROM what."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile import Dockerfile, NoSuchStageError, parse_combined, with_base
from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.image import IMAGE_FILE, TESTS_FILE
from aml_images_dagster.catalog.image_file import ImageFile, Variant
from aml_images_dagster.catalog.layout import PRIVATE_SUFFIX, ImagePlace, Layout, context_folder
from aml_images_dagster.catalog.tests_file import TestPlan
from aml_images_dagster.catalog.tree import FileMode, Tree
from aml_images_dagster.catalog.validated_file import json_lines, read_model_file
from aml_images_dagster.errors import BadInput
from aml_images_dagster.messages import lower_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

LINUX = "linux/amd64"


@dataclass(frozen=True, eq=False)
class Draft:
    """An image before the edges are known. Attributes have the meaning of those of `Image`."""

    place: ImagePlace
    name: str
    variant: str
    context: str
    settings_path: str
    tests_path: str
    dockerfile: Dockerfile | None
    settings: ImageFile
    tests: TestPlan | None
    problems: tuple[Finding, ...]
    public_lines: int | None

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.place.family

    @property
    def fields(self) -> Mapping[str, str]:
        """The fields of its path, with the name of a variant."""
        return {**self.place.fields, "name": self.name}

    @property
    def id(self) -> str:
        """`<family>/<name>`."""
        return f"{self.family}/{self.name}"


def read_drafts(tree: Tree, layout: Layout) -> list[Draft]:
    """Every image of a tree, each variant by itself; what is wrong with one is a problem of that one."""
    files = tree.files()
    places = layout.places(files, tree.root)
    wanted = dict.fromkeys(
        path
        for place in places
        for path in (
            place.dockerfile_path,
            place.dockerfile_path + PRIVATE_SUFFIX,
            own_file(place, TESTS_FILE, files),
            own_file(place, IMAGE_FILE, files),
        )
        if path in files
    )
    reader = _Reader(tree, layout, *_read(tree, wanted))
    return [draft for place in places for draft in reader.drafts(place)]


def _read(tree: Tree, paths: Iterable[str]) -> tuple[dict[str, bytes], dict[str, BadInput]]:
    """The contents of files, and the faults of those that cannot be read."""
    try:
        return dict(tree.read_many(paths)), {}
    except BadInput:
        contents, faults = {}, {}
        for path in paths:
            try:
                contents[path] = tree.read(path)
            except BadInput as fault:
                faults[path] = fault
        return contents, faults


def own_file(place: ImagePlace, name: str, files: Mapping[str, object]) -> str:
    """Path of tests.json or image.json of an image: with the Dockerfile's name in front, else that of the folder."""
    own = place.file(f"{place.dockerfile}.{name}")
    return own if own in files else place.file(name)


class _Reader:
    def __init__(self, tree: Tree, layout: Layout, contents: dict[str, bytes], unreadable: dict[str, BadInput]) -> None:
        self._tree = tree
        self._files = tree.files()
        self._layout = layout
        self._contents = contents
        self._unreadable = unreadable

    def drafts(self, place: ImagePlace) -> Iterator[Draft]:
        image = f"{place.family}/{place.name}"
        path = own_file(place, IMAGE_FILE, self._files)
        settings = ImageFile()
        faults = tuple(self._not_files(image, path, place.dockerfile_path, place.dockerfile_path + PRIVATE_SUFFIX))
        if path in self._contents:
            read, wrong = read_model_file(ImageFile, self._contents[path], path, image=image)
            settings = read or settings
            faults += wrong
        if not settings.variants:
            yield self._draft(place, place.name, "", settings, None, path, faults)
        for key, variant in settings.variants.items():
            name = variant.name or f"{place.name}-{key}"
            yield self._draft(place, name, key, settings.of_variant(key), variant, path, faults)

    def _draft(
        self,
        place: ImagePlace,
        name: str,
        key: str,
        settings: ImageFile,
        variant: Variant | None,
        settings_path: str,
        faults: tuple[Finding, ...],
    ) -> Draft:
        image = f"{place.family}/{name}"
        problems = [replace(fault, image=image) for fault in faults]
        own_tests = variant.tests if variant else ""
        tests_path = place.file(own_tests) if own_tests else own_file(place, TESTS_FILE, self._files)
        tests = None
        if own_tests and tests_path not in self._files:
            message = f"variants.{key}.tests: there is no {tests_path}"
            problems.append(Finding(image, "error", message, settings_path))
        content = self._content(tests_path)
        problems += self._not_files(image, tests_path)
        if content is not None:
            tests, wrong = read_model_file(TestPlan, content, tests_path, image=image)
            problems += wrong
        context = place.folder
        try:
            context = context_folder(settings.context or self._layout.context, place.folder, where=settings_path)
        except BadInput as error:
            problems.append(_as_finding(error, image, settings_path))
        dockerfile, others = None, list[Dockerfile]()
        private = self._contents.get(place.dockerfile_path + PRIVATE_SUFFIX)
        public = self._contents.get(place.dockerfile_path)
        if public is not None and self._files[place.dockerfile_path].mode is not FileMode.SYMLINK:
            try:
                by_platform = {
                    platform: parse_combined(
                        public,
                        private,
                        settings.build_args,
                        place.dockerfile_path,
                        platform=platform,
                        template_tags=self._layout.template_tags,
                        target=settings.target,
                    )
                    for platform in settings.platforms or (settings.platform or LINUX,)
                }
                dockerfile, *others = by_platform.values()
                problems += _differing_bases(dockerfile, others, image, place.dockerfile_path)
                if settings.platforms or settings.platform:
                    problems += _other_platforms(by_platform, image, place.dockerfile_path)
            except NoSuchStageError as error:
                key_path = ("variants", key, "target") if variant and variant.target else ("target",)
                line = json_lines(self._contents[settings_path]).line(key_path)
                message = f"target: {error.what}; {lower_first(error.hint)}"
                problems.append(Finding(image, "error", message, settings_path, line))
            except BadInput as error:
                problems.append(_as_finding(error, image, place.dockerfile_path))
        if dockerfile and variant and variant.base:
            try:
                dockerfile = with_base(dockerfile, variant.base)
            except BadInput as error:
                message = f"variants.{key}.base: {error.what}"
                problems.append(Finding(image, "error", message, settings_path))
        if dockerfile and others:  # FROM may mean another stage on each platform
            needed = dockerfile.needed_stages.union(*(other.needed_stages for other in others))
            dockerfile = replace(dockerfile, needed_stages=needed)
        return Draft(
            place=place,
            name=name,
            variant=key,
            context=context,
            settings_path=settings_path,
            tests_path=tests_path,
            dockerfile=dockerfile,
            settings=settings,
            tests=tests,
            problems=tuple(problems),
            public_lines=None
            if private is None or dockerfile is None
            else dockerfile.text.count("\n") - private.count(b"\n"),
        )

    def _content(self, path: str) -> bytes | None:
        """A file, read when it is asked for first; None when there is none, or it cannot be read."""
        if path in self._files and path not in self._contents and path not in self._unreadable:
            contents, faults = _read(self._tree, [path])
            self._contents |= contents
            self._unreadable |= faults
        return self._contents.get(path)

    def _not_files(self, image: str, *paths: str) -> Iterator[Finding]:
        """What is there in place of a file that can be read."""
        for path in paths:
            if path in self._unreadable:
                yield _as_finding(self._unreadable[path], image, path)
            elif path in self._files and self._files[path].mode is FileMode.SYMLINK:
                yield Finding(image, "error", "a symbolic link is not allowed here; put the file itself", path)
            elif path not in self._files and self._tree.below(path):
                yield Finding(image, "error", "a folder is not allowed here; put a file", path)


def _differing_bases(dockerfile: Dockerfile, others: Sequence[Dockerfile], image: str, path: str) -> Iterator[Finding]:
    """Bases that are other images for other platforms: each base is pinned once, for all of them."""
    for other in others:
        for use, same in zip_longest(dockerfile.uses, other.uses):
            if use is None or same is None or use.reference != same.reference:
                names = " and ".join(each.reference if each else "no image" for each in (use, same))
                message = f"{names} for different platforms of one image; name one base that has all of them"
                yield Finding(image, "error", message, path, (use or same).line)
                break


def _other_platforms(by_platform: Mapping[str, Dockerfile], image: str, path: str) -> Iterator[Finding]:
    """Images of another platform than they say: a builder believes image.json, and takes the programs of FROM."""
    for platform, dockerfile in by_platform.items():
        said = "/".join(dockerfile.platform.split("/")[:2])
        if said not in ("", platform):
            message = f"FROM --platform={said} makes the image of programs for {said}, and image.json says {platform}"
            yield Finding(image, "error", message, path, dockerfile.final_chain[-1].line)


def _as_finding(error: BadInput, image: str, path: str) -> Finding:
    place = re.fullmatch(r"(?P<path>.*?)(?::(?P<line>\d+))?", error.where, re.DOTALL)
    message = f"{error.what}; {lower_first(error.hint)}" if error.hint else error.what
    if place is None or not place["path"]:
        return Finding(image, "error", message, path)
    return Finding(image, "error", message, place["path"], int(place["line"]) if place["line"] else None)
