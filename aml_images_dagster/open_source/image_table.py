"""The public list of images: a table for the README of the public repository, and release notes.

What an image is capable of is read from what production serves, and no tag is named that production does not serve.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.builds.ledger import LATEST
from aml_images_dagster.builds.versions.release_notes import public_notes, served_notes
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.trust.difference import capabilities
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.builds.versions.release_notes import ReleaseNotes
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings

BEGIN = "<!-- images: begin; written by aml-images, changes here are lost -->"
END = "<!-- images: end -->"

_REGION = re.compile(r"<!-- images: begin\b.*?-->.*?<!-- images: end -->", re.DOTALL)
_LINUX = re.compile(r"(ubuntu|debian|alpine|azurelinux|mariner|rockylinux|fedora|busybox)[:/-]?v?(\d+(?:\.\d+)*)?")
_WINDOWS = re.compile(r"windows/(?:(?P<edition>servercore|nanoserver|server):)?.*?(?P<version>ltsc\d+|\d{4}|20H2)?$")
_EDITIONS = {"servercore": "Windows Server Core", "nanoserver": "Nano Server", "server": "Windows Server"}
_MOST_RELEASES = 50
_VERSION = re.compile(r"`\d[\w.+:~, -]*`")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image, as users see it.

    Attributes:
        image: The image.
        published: The name to pull, without a tag.
        tags: Tags that production serves, the newest release first, then latest; none before the first release.
        system: Its operating system, e.g. `Debian 12`.
        base: What it is FROM, as the public Dockerfile says.
        capabilities: What is in the release that is served as the latest, e.g. `Python 3.11.2, Open MPI 4.1.4`.
        notes: Release notes of the tags that production serves, the newest first.
    """

    image: Image
    published: str
    tags: tuple[str, ...]
    system: str
    base: str
    capabilities: str = ""
    notes: tuple[ReleaseNotes, ...] = ()

    @property
    def current_notes(self) -> ReleaseNotes | None:
        """Those of the release that is served as the latest."""
        return next((notes for notes in self.notes if notes.tag in self.tags), None)


def list_images(source: Source, backends: Backends, settings: Settings) -> list[ListedImage]:
    """All images of the catalog, with the tags that the production registry really has.

    Raises:
        BadInput: A record of a release cannot be read.
        Unreachable: The production registry does not answer.
    """
    return [_listed(image, source.catalog, backends, settings) for image in source.catalog.images.values()]


def _listed(image: Image, catalog: Catalog, backends: Backends, settings: Settings) -> ListedImage:
    tags = _tags(image, backends, settings)
    return ListedImage(
        image=image,
        published=pulled_as(image, catalog, settings),
        tags=tags,
        system=operating_system(image, catalog),
        base=image.parsed.base if image.parsed else "",
        capabilities=_capabilities(image, tags[0], backends, settings) if tags else "",
        notes=tuple(served_notes(image.id, backends)) if tags else (),
    )


def pulled_as(image: Image, catalog: Catalog, settings: Settings) -> str:
    """The name to pull, without a tag: where releases become public, else that of published-as."""
    names = catalog.published.of(image.id)
    if settings.release.public_names or not names:
        pattern = settings.release.public_names or f"{settings.production_registry}/{settings.production_names}"
        return pattern.format(name=image.name, family=image.family)
    above, _, last = names[0].rpartition("/")
    return f"{above}/{last.partition(':')[0]}"


def _capabilities(image: Image, tag: str, backends: Backends, settings: Settings) -> str:
    """What is in a release, by its inventory; of several platforms the first one's. Empty if it cannot be read."""
    repository = settings.production_names.format(name=image.name, family=image.family)
    production, records = backends.production, LayerRecords(settings.layer_records)
    try:
        first, *_ = images_of(production, Reference(production.host, repository, tag)).values()
        found = capabilities(read_inventory(production, first, records, image.settings.contains))
    except BadInput:
        return ""
    return ", ".join(f"{name} {version}" for name, version in found.items())


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


def image_table(images: Iterable[ListedImage], today: date, settings: Settings) -> str:
    """The table in Markdown, with links to the release notes."""
    lines = [
        "| image | operating system | capabilities | tags | base | end of life |",
        "|---|---|---|---|---|---|",
    ]
    readme = posixpath.dirname(settings.open_source.readme)
    for listed in images:
        eol = listed.image.settings.eol
        ended = f"since {eol}: not built any more" if listed.image.is_past_end_of_life(today) else str(eol or "")
        tags = ", ".join(f"`{tag}`" for tag in listed.tags) or "not released yet"
        if listed.notes and (path := notes_path(listed.image, settings)):
            tags += f" ([release notes]({posixpath.relpath(path, readme or '.')}))"
        lines.append(
            f"| `{listed.published}` | {listed.system} | {listed.capabilities} | {tags} | `{listed.base}` | {ended} |"
        )
    return "\n".join(lines)


def notes_path(image: Image, settings: Settings) -> str:
    """The file of the public repository with the release notes of an image; empty where none are published."""
    return settings.open_source.notes_file.format(family=image.family, name=image.name)


def notes_page(listed: ListedImage) -> str:
    """The release notes of an image: of the tags that production serves, the newest first; empty for none."""
    if not listed.notes:
        return ""
    current = listed.tags[0]
    page = [f"# Release notes of `{listed.published}`"]
    if LATEST in listed.tags and current != LATEST:
        page.append(f"`{LATEST}` is `{current}`.")
    for notes in listed.notes[:_MOST_RELEASES]:
        page += notes_of(listed, notes)
    if len(listed.notes) > _MOST_RELEASES:
        page.append("Earlier releases are not listed.")
    return "\n\n".join(page) + "\n"


def without_versions(notes: str) -> str:
    """Release notes as the leak check reads them: a version such as `10.3.2.106` looks like a private address."""
    return _VERSION.sub("``", notes)


def notes_of(listed: ListedImage, notes: ReleaseNotes) -> Iterable[str]:
    """The notes of one release, for everybody."""
    return public_notes(notes, listed.published, {each.tag for each in listed.notes}, [listed.base])


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
