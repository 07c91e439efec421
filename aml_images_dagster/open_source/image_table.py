"""The table of images in the README of the public repository: names, tags, bases, end of life."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.builds.ledger import LATEST
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings

BEGIN = "<!-- images: begin; written by aml-images, changes here are lost -->"
END = "<!-- images: end -->"

_REGION = re.compile(r"<!-- images: begin\b.*?-->.*?<!-- images: end -->", re.DOTALL)
_LINUX = re.compile(r"(ubuntu|debian|alpine|azurelinux|mariner|rockylinux|fedora|busybox)[:/-]?v?(\d+(?:\.\d+)*)?")
_WINDOWS = re.compile(r"windows/(?:(?P<edition>servercore|nanoserver|server):)?.*?(?P<version>ltsc\d+|\d{4}|20H2)?$")
_EDITIONS = {"servercore": "Windows Server Core", "nanoserver": "Nano Server", "server": "Windows Server"}


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image, as users see it.

    Attributes:
        image: The image.
        published: The name to pull, without a tag.
        tags: Tags that production serves, the newest release first, then latest; none before the first release.
        system: Its operating system, e.g. `Debian 12`.
        base: What it is FROM, as the public Dockerfile says.
    """

    image: Image
    published: str
    tags: tuple[str, ...]
    system: str
    base: str


def list_images(source: Source, backends: Backends, settings: Settings) -> list[ListedImage]:
    """All images of the catalog, with the tags that the production registry really has.

    Raises:
        Unreachable: The production registry does not answer.
    """
    return [
        ListedImage(
            image=image,
            published=settings.published_as[0].format(name=image.name, family=image.family),
            tags=_tags(image, backends, settings),
            system=operating_system(image, source.catalog),
            base=image.parsed.base if image.parsed else "",
        )
        for image in source.catalog.images.values()
    ]


def operating_system(image: Image, catalog: Catalog) -> str:
    """The name and version of an image's operating system, read from the base at the end of its FROM lines."""
    base = image.parsed.base if image.parsed else ""
    seen = {image.id}
    while parent := _parent(base, catalog):
        if parent.id in seen or parent.parsed is None:
            break
        seen.add(parent.id)
        base = parent.parsed.base
    linux = _LINUX.search(base)
    if image.os == "windows":
        windows = _WINDOWS.search(base)
        edition = _EDITIONS.get(windows["edition"] or "", "Windows") if windows else "Windows"
        return f"{edition} {windows['version']}" if windows and windows["version"] else edition
    if linux:
        return " ".join(filter(None, (linux[1].capitalize(), linux[2])))
    return "Linux"


def image_table(images: Iterable[ListedImage], today: date) -> str:
    """The table in Markdown."""
    lines = ["| image | tags | operating system | base | end of life |", "|---|---|---|---|---|"]
    for listed in images:
        eol = listed.image.settings.eol
        ended = f"since {eol}: not built any more" if listed.image.is_past_end_of_life(today) else str(eol or "")
        tags = ", ".join(f"`{tag}`" for tag in listed.tags) or "not released yet"
        lines.append(f"| `{listed.published}` | {tags} | {listed.system} | `{listed.base}` | {ended} |")
    return "\n".join(lines)


def with_table(readme: str, table: str, path: str) -> str:
    """The README with the table in its place.

    Raises:
        BadInput: The two lines between which it stands are missing.
    """
    if not _REGION.search(readme):
        raise BadInput(
            "the README has no place for the table of images",
            where=path,
            hint=f"Add these two lines where it belongs: {BEGIN} {END}",
        )
    region = f"{BEGIN}\n{table}\n{END}"
    return _REGION.sub(lambda _: region, readme, count=1)


def _parent(base: str, catalog: Catalog) -> Image | None:
    try:
        parent = catalog.published.resolve(base) or catalog.published.release(base)
    except BadInput:  # `scratch`, or no reference at all
        return None
    return catalog.images.get(parent) if parent else None


def _tags(image: Image, backends: Backends, settings: Settings) -> tuple[str, ...]:
    repository = settings.production_names.format(name=image.name, family=image.family)
    releases = sorted(set(backends.production.tags(repository)) - {LATEST}, key=_release_order, reverse=True)
    latest = _digest(repository, LATEST, backends)
    if latest is None:
        return tuple(releases[:1])
    # What latest points to is the release in use, also after a rollback.
    current = next((tag for tag in releases if _digest(repository, tag, backends) == latest), None)
    return (current, LATEST) if current else (LATEST,)


def _digest(repository: str, tag: str, backends: Backends) -> str | None:
    return backends.production.digest(Reference(backends.production.host, repository, tag))


def _release_order(tag: str) -> tuple[int, ...]:
    """`20261123.v10` comes after `20261123.v2`; tags of another form come before all of these."""
    release = re.fullmatch(r"(\d{8})\.v(\d+)", tag)
    return (int(release[1]), int(release[2])) if release else ()
