"""A new image folder: complete and valid from the start, to be filled."""

from __future__ import annotations

import json
import posixpath
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_images_dagster.catalog.image import (
    DOCKERFILE,
    IMAGE_FILE,
    LICENSE_FILE,
    NOTICES_FILE,
    PRIVATE_DOCKERFILE,
    TESTS_FILE,
)
from aml_images_dagster.catalog.image_name import name_fault, plain_name
from aml_images_dagster.catalog.layout import FOLDER
from aml_images_dagster.catalog.notices import NOTHING_ADDED
from aml_images_dagster.catalog.published import fields_of
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

_LICENSE = """\
MIT License

Copyright (c) the authors of this repository

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
_PRIVATE = "# Appended to Dockerfile when the image is built; never published.\n"
_NOTICES = """\
THIRD-PARTY SOFTWARE NOTICES: {name}

This image is built on {parent}. {nothing_added}
yet: name here what its Dockerfile installs, each with its licence and home page.

The notices of that image apply as well.
"""


@dataclass(frozen=True, slots=True)
class NewImage:
    """What was written.

    Attributes:
        name: `<family>/<image name>`.
        path: The folder, relative to the repository.
        files: Names of its files.
    """

    name: str
    path: str
    files: tuple[str, ...]


def new_image(name: str, parent: Image, catalog: Catalog, tree: Tree) -> NewImage:
    """Write the folder of a new image that is FROM another of the catalog.

    It has the licence and the scenarios of its parent: what that promises holds for what is built on it. A parent
    without scenarios leaves it without, too.

    Args:
        name: `<family>/<image name>`.
        parent: What it is FROM.
        catalog: The images that are there.
        tree: The working tree that the catalog was loaded from.

    Raises:
        BadInput: The name is none, or is taken. Nothing was written.
    """
    family, slash, last = name.partition("/")
    fault = name_fault(family, last) if slash else f"{name!r} has no family"
    if fault:
        raise BadInput(fault, where="new", hint="Write the name as FAMILY/IMAGE.")
    path = f"{_family_folder(family, parent, catalog)}/{last}"
    if (tree.root / path).exists():
        raise BadInput("the folder is there already", where=path, hint="Choose another name; nothing is overwritten.")
    alike = _named_alike(family, last, catalog)
    if alike:
        raise BadInput(
            f"{name} would be published or released, or its jobs named, like {alike}", hint="Choose another name."
        )
    if [(p.family, p.name) for p in catalog.layout.places([f"{path}/{DOCKERFILE}"], tree.root)] != [(family, last)]:
        raise BadInput(
            f"a Dockerfile there is not {name} by the settings image-paths and dockerfile-names",
            where=path,
            hint="Write the folder by hand.",
        )
    files = _files(last, parent, catalog, tree)
    folder = tree.root / path
    try:
        folder.mkdir(parents=True)
        for file, content in files.items():
            (folder / file).write_text(content, encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return NewImage(f"{family}/{last}", path, tuple(sorted(files)))


def _files(name: str, parent: Image, catalog: Catalog, tree: Tree) -> dict[str, str]:
    """Every file of the folder; the Dockerfile last, because it makes a folder an image."""
    published = next((name for name in catalog.published.of(parent.id) if "*" not in name), "")
    if not published:
        raise BadInput(
            f"no FROM can name {parent.id}: no pattern of published-as gives it a name of one version",
            where="new",
            hint="Write the folder by hand.",
        )
    has_tag = ":" in published.rpartition("/")[2]
    there = tree.files()
    inherited = {
        file: tree.read(path).decode("utf-8")
        for file, path in ((LICENSE_FILE, parent.file(LICENSE_FILE)), (TESTS_FILE, parent.tests_path))
        if path in there
    }
    settings: dict[str, Any] = {"description": f"Built on {parent.name}."}
    if parent.settings.owners:
        settings["owners"] = list(parent.settings.owners)
    if parent.settings.platform:
        settings["platform"] = parent.settings.platform
    if parent.settings.platforms:
        settings["platforms"] = list(parent.settings.platforms)
    if catalog.layout.context != FOLDER:
        settings["context"] = FOLDER
    root = "C:/" if parent.os == "windows" else "/"
    return {
        LICENSE_FILE: _LICENSE,
        **inherited,
        NOTICES_FILE: _NOTICES.format(name=name, parent=published, nothing_added=NOTHING_ADDED),
        IMAGE_FILE: json.dumps(settings, indent=2, ensure_ascii=False) + "\n",
        PRIVATE_DOCKERFILE: f"{_PRIVATE}COPY {LICENSE_FILE} {NOTICES_FILE} {root}\n",
        DOCKERFILE: f"FROM {published if has_tag else f'{published}:latest'}\n",
    }


def _family_folder(family: str, parent: Image, catalog: Catalog) -> str:
    """Where the images of the family are; a new family is put beside that of the parent."""
    found = next((image for image in catalog.images.values() if image.family == family), None)
    if found:
        return posixpath.dirname(found.path)
    above = posixpath.dirname(posixpath.dirname(parent.path)) or catalog.layout.paths[0]
    return f"{above}/{family}" if above else family


def _named_alike(family: str, name: str, catalog: Catalog) -> str:
    """An image from whose name something is derived that only one image can have; empty for none."""

    def derived(its_family: str, its_name: str) -> set[str]:
        patterns = (*catalog.published_as, *catalog.released_as)
        own = {"family": its_family, "name": its_name}
        names = (pattern.format_map(own) for pattern in patterns if own.keys() >= set(fields_of(pattern)))
        return {plain_name(its_family, its_name), *names}

    ours = derived(family, name)
    return next((i.id for i in catalog.images.values() if ours & derived(i.family, i.name)), "")
