"""Publishing sources: the public part of image folders, and release notes, proposed to the public repository."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.image import DOCKERFILE
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.open_source.image_table import (
    image_table,
    list_images,
    notes_page,
    notes_path,
    with_table,
    without_versions,
)
from aml_images_dagster.open_source.leak_check import LeakRules, private_files
from aml_images_dagster.open_source.proof import prove_that_they_build
from aml_images_dagster.open_source.proposal import Proposal, open_place, propose
from aml_images_dagster.open_source.public_part import PublicFile, PublicPart

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.catalog.git import ChangedFile
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.engine.interface import LogLine
    from aml_images_dagster.settings import Settings


def publish_source(
    source: Source,
    backends: Backends,
    settings: Settings,
    log: LogLine,
    *,
    images: Iterable[str] | None = None,
    dry_run: bool = False,
) -> Proposal:
    """Propose the public part of image folders to the public repository, with the table of images and release notes.

    Args:
        source: Where the image folders come from.
        backends: Their engine proves that the public Dockerfiles build; production says which tags there are.
        settings: Name the public repository and what may not be in it.
        log: Receives what is going on, the engine's output included.
        images: Ids of the images; None takes all that are not past their end of life. Table and release notes are
            always those of all images. What was proposed before and is not merged yet stays proposed.
        dry_run: Stop before building and pushing.

    Raises:
        LeaksFound: Something that must not become public was found.
        BadInput: A public part is not complete, a setting is missing, or the public repository refuses.
        BuildFailed: A public Dockerfile does not build alone.
        Unreachable: A registry, the engine or the public repository does not answer.
    """
    wanted = settings.open_source
    chosen = source.catalog.select_default() if images is None else images
    with open_place(wanted.source_place, settings) as repository:
        public = {
            public_folder(image, settings): PublicPart.of(image, source.tree)
            for image in map(source.catalog.get, chosen)
        }
        for folder, part in public.items():
            repository.replace_folder(folder, part.files)
        every = list_images(source, backends, settings)
        notes = {path: notes_page(one) for one in every if (path := notes_path(one.image, settings))}
        for path, page in notes.items():
            if page:
                repository.write(path, page.encode())
            else:
                repository.remove(path)
        listed = [
            one
            for one in every
            if one.tags or repository.read(f"{public_folder(one.image, settings)}/{DOCKERFILE}") is not None
        ]
        table = image_table(listed, datetime.now(UTC).date(), settings)
        readme = (repository.read(wanted.readme) or b"").decode("utf-8", "replace")
        repository.write(wanted.readme, with_table(readme, table, f"{wanted.readme} of {wanted.repository}").encode())

        published = {f"{folder}/{name}": file for folder, part in public.items() for name, file in part.files.items()}
        texts = {wanted.readme: table} | {path: without_versions(page) for path, page in notes.items()}
        published |= {path: PublicFile(FileMode.REGULAR, text.encode()) for path, text in texts.items()}

        def touched(changes: Sequence[ChangedFile]) -> list[PublicPart]:
            paths = [change.path for change in changes]
            return [part for folder, part in public.items() if any(path.startswith(f"{folder}/") for path in paths)]

        def describe(changes: Sequence[ChangedFile]) -> tuple[str, str]:
            folders = {public_folder(image, settings): name for name, image in source.catalog.images.items()}
            paths = [change.path for change in changes]
            names = [name for folder, name in folders.items() if any(path.startswith(f"{folder}/") for path in paths)]
            if not names and notes.keys() & set(paths):
                return "Update the release notes", ""
            if not names:
                return "Update the table of images", ""
            title = f"Update {names[0]}" if len(names) == 1 else f"Update {len(names)} images"
            return title, "\n".join(f"- {name}" for name in names)

        return propose(
            repository,
            published,
            LeakRules.of(settings, source.catalog, source.tree),
            describe,
            settings,
            further_leaks=[leak for folder, part in public.items() for leak in private_files(part, folder)],
            prove=lambda changes: prove_that_they_build(touched(changes), source, backends, settings, log),
            dry_run=dry_run,
        )


def public_folder(image: Image, settings: Settings) -> str:
    """The folder of an image in the public repository."""
    return settings.open_source.image_folder.format(family=image.family, name=image.name)
