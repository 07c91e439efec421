"""The names under which images are published, so that a FROM leads back to the folder of its image."""

from __future__ import annotations

import difflib
import os
import re
from string import Formatter
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FIELDS = frozenset({"family", "name"})
_STAR = "_any-text_"
_USUAL_TAGS = ("20000101.v1", "20991231.v99")
"""Release tags as builds get them; a template whose expression matches all such tags follows the newest release."""
_HINT = (
    "A pattern is an image reference with {name} and perhaps {family}, or with fields of image-paths; a tag may have "
    "stars: mcr.microsoft.com/azureml/{name}, mcr.microsoft.com/dotnet/{family}:{version}*-{os}."
)


class PublishedNames:
    """Published names of the images of a catalog.

    An image whose folder cannot be part of a reference (a capital letter, say) has none: no FROM can name it.

    Args:
        patterns: How images are published, e.g. `quay.io/jupyter/{name}` or `quay.io/jupyter/{family}:{name}`. A star
            in a tag stands for any text: a version of the image.
        images: The fields of every image, `family` and `name` among them. An image that lacks a field of a pattern is
            not published by it.
        fields: Fields that patterns may have.

    Raises:
        BadInput: A pattern that distinguishes no images, has an unknown field, or makes no image reference.
    """

    def __init__(
        self, patterns: Sequence[str], images: Iterable[Mapping[str, str]], fields: Iterable[str] = _FIELDS
    ) -> None:
        for pattern in patterns:
            _check_pattern(pattern, frozenset(fields))
        self._patterns = tuple(patterns)
        self._images: dict[tuple[str, str], list[str]] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._versions: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        """By name without tag, the tags of images that are published in any version."""
        for image in images:
            identity = f"{image['family']}/{image['name']}"
            filled = [pattern.format_map(image) for pattern in patterns if image.keys() >= set(fields_of(pattern))]
            self._names[identity] = tuple(filled)
            for name in filled:
                try:
                    published = Reference.parse(name.replace("*", _STAR))
                except BadInput:
                    continue
                if _STAR in published.tag:
                    tags = re.compile(".*".join(map(re.escape, published.tag.split(_STAR))))
                    self._versions.setdefault(published.name, []).append((tags, identity))
                    continue
                known = self._images.setdefault((published.name, published.tag), [])
                if identity not in known:
                    known.append(identity)

    def of(self, image: str) -> tuple[str, ...]:
        """The names of an image, `<family>/<name>`, by every pattern that fits it; stars stay."""
        return self._names.get(image, ())

    def resolve(self, reference: str) -> str | None:
        """The image that a reference follows, as `<family>/<name>`: its newest build or release is meant.

        That is one without a tag, or with `latest`, or with the tag that a pattern has. None when it is none of ours,
        and for one release of an image; see `release`.

        Raises:
            BadInput: It is no image reference, or several images are published under it.
        """
        image, follows = self._find(reference)
        return image if follows else None

    def release(self, reference: str) -> str | None:
        """The image of which a reference names one release, by a tag or a digest of its own; None for any other.

        Raises:
            BadInput: It is no image reference, or several images are published under it.
        """
        image, follows = self._find(reference)
        return None if follows else image

    def _find(self, reference: str) -> tuple[str | None, bool]:
        """The image that is published under a reference, and whether it is followed."""
        asked = Reference.parse(reference)
        tag = asked.tag or "latest"
        found = self._images.get((asked.name, tag), [])
        if not found and asked.name in self._versions:
            found = list(dict.fromkeys(name for tags, name in self._versions[asked.name] if tags.fullmatch(tag)))
        follows = not asked.digest
        if not found:
            found = self._images.get((asked.name, ""), [])
            follows = follows and asked.version == "latest" and all(asked.newest([tag]) for tag in _USUAL_TAGS)
        if len(found) > 1:
            raise BadInput(
                f"{reference} is the published name of {' and '.join(found)}",
                hint="Publish with {family} in the pattern, or rename one of the images.",
            )
        return (found[0] if found else None), follows

    def doubt(self, reference: str, *, is_nowhere: bool = False) -> str:
        """Why a reference to none of our images may mean one of them: a clause; empty where nothing says so.

        Args:
            reference: What FROM names.
            is_nowhere: Whether no registry has it. Then it may also be the id of one of our images: others may have an
                image of that name, too.

        Raises:
            BadInput: It is no image reference.
        """
        identity = Reference.parse(reference).repository
        if is_nowhere and self._names.get(identity):
            return f"FROM names {identity} of this repository as {self._names[identity][0]} (published-as)"
        meant = self.nearest(reference)
        if meant is None:
            return ""
        hint = f"did you mean {meant}?" if meant else "is it published from elsewhere?"
        return f"no image folder is published as {reference}; {hint}"

    def nearest(self, reference: str) -> str | None:
        """Whom a reference may mean that is written as our images are published, and names none of them.

        Returns:
            The image with the most similar name, as `<family>/<name>`; empty when no name is similar; None when the
            reference follows no pattern.

        Raises:
            BadInput: It is no image reference.
        """
        asked = Reference.parse(reference)
        known = {f"{name}:{tag}" if tag else name: images[0] for (name, tag), images in self._images.items()}
        for pattern in self._patterns:
            fields = fields_of(pattern)
            one, other = (
                Reference.parse(pattern.replace("*", each).format_map(dict.fromkeys(fields, each))) for each in "ab"
            )
            start = os.path.commonprefix([str(one), str(other)])  # noqa: RUF071 - characters are meant
            text = f"{asked.name}:{asked.version}" if one.tag and not asked.digest else asked.name
            if text.startswith(start) and asked.name.count("/") == one.name.count("/"):
                # What all of them have in common would make any two similar.
                ends = {each.removeprefix(start): each for each in known if each.startswith(start)}
                close = difflib.get_close_matches(text.removeprefix(start), ends, n=1)
                return known[ends[close[0]]] if close else ""
        return None


def fields_of(pattern: str) -> list[str]:
    """The fields of a pattern, in order."""
    return [name for _, name, _, _ in Formatter().parse(pattern) if name is not None]


def _check_pattern(pattern: str, known: frozenset[str]) -> None:
    where = f"published-as {pattern!r}"
    try:
        fields = [field for field in Formatter().parse(pattern) if field[1] is not None]
    except ValueError:
        raise BadInput("a brace is not closed", where=where, hint=_HINT) from None
    for _, name, spec, conversion in fields:
        if name not in known or spec or conversion:
            raise BadInput(f"{{{name}}} is no field, or not in its plain form", where=where, hint=_HINT)
    if all(name in (None, "family") for _, name, _, _ in fields):
        raise BadInput("{name} is missing", where=where, hint=_HINT)
    if "*" in pattern.rpartition("/")[0] + pattern.rpartition("/")[2].partition(":")[0]:
        raise BadInput("only a tag may have stars", where=where, hint=_HINT)
    try:
        reference = Reference.parse(pattern.replace("*", _STAR).format_map(dict.fromkeys(known, "name")))
    except BadInput as error:
        raise BadInput(error.what, where=where, hint=_HINT) from None
    if reference.digest:
        raise BadInput("a digest is no part of a published name", where=where, hint=_HINT)
