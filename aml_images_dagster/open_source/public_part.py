"""The public part of an image folder: Dockerfile, licence, notices, and what the Dockerfile copies; nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.context_files import ContextFiles
from aml_images_dagster.catalog.dockerfile import (
    Dockerfile,
    copy_sources,
    parse_combined,
    parse_dockerfile,
    pin,
    with_arguments,
    with_base,
)
from aml_images_dagster.catalog.image import DOCKERFILE, LICENSE_FILE, NOTICES_FILE
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import FileMode, Tree


@dataclass(frozen=True, slots=True)
class PublicFile:
    """One file, as it is published; of a symbolic link the content is the target."""

    mode: FileMode
    content: bytes


@dataclass(frozen=True, slots=True)
class PublicPart:
    """The public part of an image folder.

    Attributes:
        image: The image.
        dockerfile: The public Dockerfile by itself, read without the build arguments of image.json, which no one
            else has; that of a variant has its arguments and its base in the text. It ends with the stage
            that makes the image.
        files: Every file by its name relative to the image folder, sorted.
    """

    image: Image
    dockerfile: Dockerfile
    files: Mapping[str, PublicFile]

    @classmethod
    def of(cls, image: Image, tree: Tree) -> PublicPart:
        """Gather the public part of an image.

        Raises:
            BadInput: A file is missing, the Dockerfile can't be read without its private part, or it copies files from
                outside of the image's folder.
        """
        modes = tree.files()
        if (image.context, image.dockerfile_name) != (image.path, DOCKERFILE):
            raise BadInput(
                "only images with a Dockerfile of this name, and with their own folder as build context, are published",
                where=image.dockerfile_path,
                hint="Give the image a folder of its own, or leave it out of open_source.",
            )
        names = ContextFiles(tree, image).names
        for name in (DOCKERFILE, LICENSE_FILE, NOTICES_FILE):
            if image.file(name) not in modes:
                raise BadInput(
                    f"{name} is missing",
                    where=image.file(name),
                    hint="Add it: sources are published only with this file.",
                )
        dockerfile = parse_combined(
            tree.read(image.file(DOCKERFILE)),
            None,
            path=image.file(DOCKERFILE),
            platform=image.platform,
            target=image.settings.target,
        )
        if image.variant:
            dockerfile = _of_variant(dockerfile, image)
        public = {DOCKERFILE, LICENSE_FILE, NOTICES_FILE}
        for source in copy_sources(dockerfile, None, image.platforms):
            copied = source.matches(names)
            if not copied:
                raise BadInput(
                    f"{source.keyword} {source.written} does not name files that can be published",
                    where=f"{image.file(DOCKERFILE)}:{source.line}",
                    hint="Name a file of the folder; a variable needs a default in the Dockerfile.",
                )
            public.update(copied)
        paths = {name: image.file(name) for name in sorted(public)}
        contents = (content for _, content in tree.read_many(paths.values()))
        files = {
            name: PublicFile(modes[path].mode, content)
            for (name, path), content in zip(paths.items(), contents, strict=True)
        }
        files[DOCKERFILE] = replace(files[DOCKERFILE], content=dockerfile.text.encode())
        return cls(image, dockerfile, files)


def _of_variant(dockerfile: Dockerfile, image: Image) -> Dockerfile:
    """The Dockerfile of a folder as it is for one of its variants alone."""
    text, base = with_arguments(dockerfile.text, image.settings.build_args), image.dockerfile.base
    own = parse_dockerfile(text, path=image.file(DOCKERFILE), platform=image.platform)
    if own.base == base:
        return own
    pinned = pin(with_base(own, base), {base: base})
    return parse_dockerfile(pinned, path=image.file(DOCKERFILE), platform=image.platform)
