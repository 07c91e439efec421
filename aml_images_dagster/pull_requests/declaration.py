"""Images that pull requests add: what Dagster needs to run them beside the images of the main branch.

Dagster knows the assets that were there when the code location was loaded. So what pull requests add, and what they
newly build FROM what, is stored in the artifacts store, and read when the code location reloads.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.catalog.graph import find_cycle
from aml_images_dagster.catalog.image import Image
from aml_images_dagster.catalog.image_file import ImageFile
from aml_images_dagster.catalog.image_name import plain_name
from aml_images_dagster.catalog.tests_file import TestPlan
from aml_images_dagster.text import code, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from upath import UPath

_FILE = "pull_requests/declared.json"


class DeclaredImage(BaseModel):
    """An image of a pull request.

    Attributes:
        family: See `Image`.
        name: See `Image`.
        path: See `Image`.
        os: See `Image`.
        platform: See `Image`.
        parents: See `Image`.
        settings: Its image.json.
        tests: Its tests.json.
    """

    model_config = ConfigDict(frozen=True)

    family: str
    name: str
    path: str
    os: Literal["linux", "windows"]
    platform: str
    parents: tuple[str, ...]
    settings: ImageFile
    tests: TestPlan | None

    @classmethod
    def of(cls, image: Image) -> DeclaredImage:
        """An image of a catalog."""
        return cls(**{field: getattr(image, field) for field in cls.model_fields})

    @property
    def id(self) -> str:
        """`<family>/<name>`."""
        return f"{self.family}/{self.name}"

    def image(self) -> Image:
        """The image as the assets need it; its Dockerfile is read from the commit when it is built.

        The UI shows descriptions as Markdown, with the images in it. So text of strangers is shown as code.
        """
        description = self.settings.description and code(printable(self.settings.description))
        return Image(
            family=self.family,
            name=self.name,
            path=self.path,
            os=self.os,
            platform=self.platform,
            parsed=None,
            parents=self.parents,
            bases=(),
            settings=self.settings.model_copy(update={"description": description}),
            tests=self.tests,
        )


class Declarations(BaseModel):
    """`pull_requests/declared.json` in the artifacts store: the declared images by the number of the pull request."""

    model_config = ConfigDict(frozen=True)

    images: dict[int, tuple[DeclaredImage, ...]] = {}

    @classmethod
    def read(cls, artifacts: UPath) -> Declarations:
        """What is written there; nothing when it cannot be read: pull requests declare it again."""
        try:
            return cls.model_validate_json((artifacts / _FILE).read_bytes())
        except (OSError, ValueError):
            return cls()

    def write(self, artifacts: UPath) -> None:
        """Write it whole."""
        write_atomically(artifacts / _FILE, self.model_dump_json(exclude_defaults=True).encode())

    def all(self) -> tuple[DeclaredImage, ...]:
        """Every declared image, by number of its pull request."""
        return tuple(image for number in sorted(self.images) for image in self.images[number])


def unknown_images(images: Sequence[DeclaredImage], known: Mapping[str, tuple[str, ...]]) -> tuple[DeclaredImage, ...]:
    """The images that Dagster does not know, or does not know to be FROM another of them.

    Args:
        images: What is to be built.
        known: The images that Dagster knows, each with its parents.
    """
    chosen = {image.id for image in images}
    return tuple(
        image
        for image in images
        if image.id not in known or not chosen.intersection(image.parents).issubset(known[image.id])
    )


def with_declared(images: Iterable[Image], declared: Iterable[DeclaredImage]) -> list[Image]:
    """The images of the main branch, and what pull requests add to them: images, and FROM edges.

    An edge only orders the steps of a run. Edges that would make a cycle, and names that Dagster cannot distinguish
    from others, are left out.
    """
    found = {image.id: image for image in images}
    names = Counter(plain_name(image.family, image.name) for image in found.values())
    for extra in declared:
        before = found.get(extra.id)
        plain = plain_name(extra.family, extra.name)
        if before is None and names[plain]:
            continue
        image = before or extra.image()
        image = replace(image, parents=tuple(dict.fromkeys([*image.parents, *extra.parents])))
        edges = {each.id: each.parents for each in found.values()} | {image.id: image.parents}
        if find_cycle(edges) is None:
            found[image.id] = image
            names[plain] += before is None
    return [
        replace(image, parents=tuple(parent for parent in image.parents if parent in found)) for image in found.values()
    ]
