"""Syndication: what the pages of the registry and of Docker Hub show of an image, a repository YAML and a README.

Beside them is the page of the fleet, without what is of the team alone.

The YAML has the form of the tags metadata that Microsoft's own image factory writes for its container registry.
Source: https://github.com/dotnet/docker-tools, McrTagsMetadataGenerator.cs.
What the registry makes of it is not public.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.image import DOCKERFILE, LICENSE_FILE, NOTICES_FILE
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.errors import BadInput
from aml_images_dagster.fleet.collection import collect_fleet
from aml_images_dagster.fleet.page import fleet_page
from aml_images_dagster.open_source.image_table import ListedImage, list_images, notes_of, without_versions
from aml_images_dagster.open_source.leak_check import LeakRules
from aml_images_dagster.open_source.proposal import Proposal, open_place, propose
from aml_images_dagster.open_source.public_part import PublicFile
from aml_images_dagster.open_source.publication import public_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import date

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.catalog.git import ChangedFile
    from aml_images_dagster.settings import Settings

_LONGEST = 25_000
"""Characters of a page that Docker Hub takes."""
README = "README.md"
TAGS_FILE = "tags.yml"


def publish_docs(
    source: Source,
    backends: Backends,
    settings: Settings,
    *,
    images: Collection[str] | None = None,
    dry_run: bool = False,
) -> Proposal:
    """Propose YAML and README of released images, and the page of the fleet, to the repository of the documentation.

    Args:
        source: Where the image folders come from.
        backends: Production says which tags there are.
        settings: Name the repository and what may not be in it.
        images: Ids of the images; None takes all that were released.
        dry_run: Stop before pushing.

    Raises:
        LeaksFound: Something that must not become public was found.
        BadInput: A named image was never released, a setting is missing, or the repository refuses.
        Unreachable: The production registry or the repository does not answer.
    """
    wanted = settings.open_source
    now = datetime.now(UTC)
    today = now.date()
    listed = [one for one in list_images(source, backends, settings) if images is None or one.image.id in images]
    never = [one.image.id for one in listed if not one.tags]
    if images is not None and never:
        raise BadInput(f"never released: {', '.join(never)}", hint="There is nothing to document before a release.")
    with open_place(wanted.docs_place, settings) as repository:
        published: dict[str, PublicFile] = {}
        for one in listed:
            if one.tags:
                folder = wanted.docs_folder.format(family=one.image.family, name=one.image.name)
                tags, readme, notes = tags_metadata(one, settings), image_readme(one, settings, today), _notes(one)
                repository.write(f"{folder}/{TAGS_FILE}", tags.encode())
                repository.write(f"{folder}/{README}", readme.encode())
                checked = readme.replace(notes, without_versions(notes)) if notes else readme
                published |= {f"{folder}/{TAGS_FILE}": _text(tags), f"{folder}/{README}": _text(checked)}
        if wanted.docs_fleet:
            page = fleet_page(collect_fleet(source, backends, settings, now), public=True)
            repository.write(wanted.docs_fleet, page.encode())
            published[wanted.docs_fleet] = _text(page)

        def describe(changes: Sequence[ChangedFile]) -> tuple[str, str]:
            return "Update the documentation of images", "\n".join(f"- {change.path}" for change in changes)

        rules = LeakRules.of(settings, source.catalog, source.tree)
        return propose(repository, published, rules, describe, settings, dry_run=dry_run)


def tags_metadata(listed: ListedImage, settings: Settings) -> str:
    """The repository YAML of an image."""
    image = listed.image
    groups: list[dict[str, Any]] = [
        {
            "tags": list(listed.tags),
            "architecture": platform.partition("/")[2],
            "os": image.os,
            "osVersion": listed.system,
        }
        for platform in image.platforms
    ]
    address = _file_url(DOCKERFILE, listed, settings)
    for group in groups if address else ():
        group["dockerfile"] = address
    name = settings.production_names.format(name=image.name, family=image.family)
    document = {"repos": [{"repoName": name, "customTablePivots": True, "tagGroups": groups}]}
    return yaml.safe_dump(document, sort_keys=False)


def image_readme(listed: ListedImage, settings: Settings, today: date) -> str:
    """The README of an image, for those who pull it."""
    image, newest = listed.image, listed.tags[0]
    about = image.settings.description or f"The image {image.name}."
    sections = [f"# {image.name}", about]
    if image.is_past_end_of_life(today):
        sections.append(f"**End of life since {image.settings.eol}: not built any more. Choose another image.**")
    elif image.settings.eol:
        sections.append(f"End of life: {image.settings.eol}.")
    sections.append(f"```sh\ndocker pull {listed.published}:{newest}\n```")
    rows = [
        ("tags", ", ".join(f"`{tag}`" for tag in listed.tags)),
        ("operating system", listed.system),
        *([("capabilities", listed.capabilities)] if listed.capabilities else []),
        ("platform", ", ".join(f"`{platform}`" for platform in image.platforms)),
        ("base", f"`{listed.base}`"),
    ]
    sections.append("\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]))
    links = [
        f"[{label}]({address})"
        for label, name in (("Dockerfile", DOCKERFILE), ("licence", LICENSE_FILE), ("notices", NOTICES_FILE))
        if (address := _file_url(name, listed, settings))
    ]
    if links:
        sections.append(f"Source: {', '.join(links)}.")
    readme = "\n\n".join(sections) + "\n"
    notes = _notes(listed)
    return f"{readme}\n{notes}\n" if notes and len(readme) + len(notes) < _LONGEST else readme


def _notes(listed: ListedImage) -> str:
    """The notes of the release that is served as the latest; empty without."""
    return "\n\n".join(notes_of(listed, listed.current_notes)) if listed.current_notes else ""


def _file_url(name: str, listed: ListedImage, settings: Settings) -> str:
    """Where a file of an image can be read in the public repository; empty when that is no website."""
    repository = git.without_credentials(settings.open_source.repository)
    if not repository.startswith("https://"):
        return ""
    base = repository.removesuffix("/").removesuffix(".git")
    return f"{base}/blob/{settings.open_source.target_branch}/{public_folder(listed.image, settings)}/{name}"


def _text(text: str) -> PublicFile:
    return PublicFile(FileMode.REGULAR, text.encode())
