"""`ThirdPartyNotices.txt` and its lock: what a folder says of the components in its image.

The text has a head that a person writes, and below a line a part that is written from the lock. The lock names what was
installed when somebody last looked. What moves by itself must not make it wrong: a version is in it only where the
folder itself pins one, and what the base brings is marked.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from itertools import groupby, takewhile
from textwrap import TextWrapper
from typing import TYPE_CHECKING

from pydantic import Field

from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.image import NOTICES_FILE, NOTICES_LOCK
from aml_images_dagster.catalog.validated_file import StrictModel, json_lines, read_model_file
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

GENERATED = "==== Written by `aml-images notices` from what is in the image: change nothing below this line ===="
NOTHING_ADDED = "It adds no third-party software of its own"
_SOFTWARE = "(?:software|components?|packages?)"
_DENIAL = re.compile(
    r"\b(?:adds nothing"
    r"|nothing (?:else |more )?(?:is|was|has been) (?:added|installed)(?! to the)"
    rf"|(?:adds|contains|has|includes|installs) no (?:(?:third-party|further|other|additional) )+{_SOFTWARE}"
    rf"|no (?:third-party|further|other|additional) {_SOFTWARE} (?:is|are|was|were) (?:added|installed))\b"
)
_NOT_STATED = "not stated by the package"
_LICENCE = TextWrapper(
    110,
    initial_indent="    Licence:   ",
    subsequent_indent=" " * 15,
    break_long_words=False,
    break_on_hyphens=False,
)
_HEADINGS = {
    "apk": "Packages of the distribution",
    "conda": "Packages of conda",
    "deb": "Packages of the distribution, by source package",
    "pypi": "Packages of Python",
    "rpm": "Packages of the distribution, by source package",
}


class Component(StrictModel):
    """Something in an image that is under a licence of its own: the packages of one source.

    Attributes:
        type: Type of its package URL: deb, rpm, apk, pypi, conda, or that of a declared content.
        name: Name of the source package where the distribution has one, else of the package.
        licence: An SPDX expression; empty when the package states none.
        version: Its version, where the folder pins it; empty where it moves with the distribution or the base.
        base: Whether the image's base brings it.
    """

    type: str = Field(min_length=1)
    name: str = Field(min_length=1)
    licence: str = ""
    version: str = ""
    base: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.type, self.name

    @property
    def place(self) -> tuple[bool, str, str]:
        """Its place in the order of both files: what the base brings comes last."""
        return self.base, self.type, self.name


class NoticesLock(StrictModel):
    """The whole of `ThirdPartyNotices.lock.json`."""

    components: tuple[Component, ...] = ()

    def text(self) -> str:
        """The file: a line for each component, so that a diff shows which have changed."""
        rows = [json.dumps(_written(each), ensure_ascii=False) for each in _sorted(self.components)]
        return (
            '{\n  "components": [\n    ' + ",\n    ".join(rows) + "\n  ]\n}\n" if rows else '{\n  "components": []\n}\n'
        )


def _written(component: Component) -> dict[str, str | bool]:
    return {name: value for name, value in component.model_dump().items() if value}


def _sorted(components: Iterable[Component]) -> list[Component]:
    return sorted(components, key=lambda component: component.place)


def read_lock(tree: Tree, image: Image) -> NoticesLock | None:
    """The lock of an image's folder; None where none is kept.

    Raises:
        BadInput: The lock is wrong: every mistake with its line.
    """
    path = image.file(NOTICES_LOCK)
    if path not in tree.files():
        return None
    lock, findings = _parsed(tree.read(path), image)
    if lock is None:
        first = findings[0]
        raise BadInput(
            "; ".join(each.message for each in findings),
            where=f"{path}:{first.line}" if first.line else path,
            hint=f"Remove the file; `aml-images notices {image.id} --write` makes it again.",
        )
    return lock


def _parsed(content: bytes, image: Image) -> tuple[NoticesLock | None, tuple[Finding, ...]]:
    path = image.file(NOTICES_LOCK)
    lock, findings = read_model_file(NoticesLock, content, path, image=image.id)
    if lock is None:
        return None, findings
    lines = json_lines(content)
    seen: Counter[tuple[str, str]] = Counter()
    twice = []
    for number, component in enumerate(lock.components):
        seen[component.key] += 1
        if seen[component.key] == 2:
            message = f"{component.type} {component.name} is there twice"
            twice.append(Finding(image.id, "error", message, path, lines.line(("components", number))))
    return (None, tuple(twice)) if twice else (lock, ())


def head_of(text: str) -> str:
    """What a person has written of `ThirdPartyNotices.txt`: all of it where nothing was generated yet."""
    head, _, _ = text.partition(GENERATED)
    return head.rstrip()


def says_nothing_added(text: str) -> bool:
    """Whether notices say that the folder installs nothing, as the sentence of a new folder does, or one like it."""
    return _DENIAL.search(" ".join(text.split()).lower()) is not None


def new_head(image: Image) -> str:
    """The head of a file that is not there yet."""
    return (
        f"THIRD-PARTY SOFTWARE NOTICES: {image.name}\n\n"
        "Each component below is under its own licence, named by its SPDX identifier where there is one."
    )


def notices_text(head: str, lock: NoticesLock) -> str:
    """`ThirdPartyNotices.txt`: its head, and the part that is written from the lock."""
    return "".join(f"{line}\n" for line, _ in _lines(head, lock))


def notices_lines(head: str, lock: NoticesLock) -> dict[tuple[str, str], int]:
    """The line of each component in `ThirdPartyNotices.txt`, counted from 1, by its key."""
    return {
        component.key: number for number, (_, component) in enumerate(_lines(head, lock), 1) if component is not None
    }


def _lines(head: str, lock: NoticesLock) -> Iterator[tuple[str, Component | None]]:
    for line in (*head.splitlines(), "", GENERATED):
        yield line, None
    for (is_of_base, kind), components in groupby(_sorted(lock.components), lambda each: (each.base, each.type)):
        heading = _HEADINGS.get(kind, f"Others ({kind})")
        yield "", None
        yield f"{heading}: {'of the base' if is_of_base else 'added by this image'}", None
        yield "", None
        for component in components:
            yield " ".join(filter(None, (component.name, component.version))), component
            for line in _LICENCE.wrap(component.licence or _NOT_STATED):
                yield line, None


def check_notices(images: Iterable[Image], tree: Tree) -> Iterator[Finding]:
    """What is wrong with the locks of folders, and whether the notices say what these say.

    Args:
        images: The images that are looked at, with all others of their folders.
        tree: The files of the repository.
    """
    files = tree.files()
    in_folder: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        if image.file(NOTICES_LOCK) in files:
            in_folder[image.path].append(image)
    names = [image.file(name) for image, *_ in in_folder.values() for name in (NOTICES_LOCK, NOTICES_FILE)]
    try:  # git reads many at once
        contents = dict(tree.read_many(name for name in names if name in files))
    except BadInput:
        contents = {}
    for image, *others in in_folder.values():
        if others:
            all_of_them = " and ".join(each.id for each in (image, *others))
            message = f"a lock is of one image, and this folder has {all_of_them}; remove it"
            yield from (Finding(each.id, "error", message, each.file(NOTICES_LOCK)) for each in (image, *others))
            continue
        try:
            yield from _check(image, tree, contents)
        except BadInput as fault:
            yield Finding(image.id, "error", fault.what, fault.where or image.file(NOTICES_LOCK))


def _check(image: Image, tree: Tree, contents: Mapping[str, bytes]) -> Iterator[Finding]:
    path, notices = image.file(NOTICES_LOCK), image.file(NOTICES_FILE)
    lock, findings = _parsed(contents[path] if path in contents else tree.read(path), image)
    yield from findings
    if lock is None or notices not in tree.files():
        return
    text = (contents[notices] if notices in contents else tree.read(notices)).decode("utf-8", "replace")
    said, meant = text.splitlines(), notices_text(head_of(text), lock).splitlines()
    if said != meant:
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(said, meant, strict=False)))
        message = f"it does not say what {NOTICES_LOCK} says; `aml-images notices {image.id} --write` writes both"
        yield Finding(image.id, "error", message, notices, same + 1)


def sharing(image: Image, catalog: Catalog) -> Sequence[str]:
    """Other images of the same folder."""
    return [each.id for each in catalog.images.values() if each.path == image.path and each.id != image.id]
