"""The names under which images are published, so that a FROM leads back to the folder of its image."""

from __future__ import annotations

import difflib
import os
from string import Formatter
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FIELDS = frozenset({"family", "name"})
_HINT = "A pattern is an image reference with {name} and perhaps {family}, e.g. mcr.microsoft.com/azureml/{name}."


class PublishedNames:
    """Published names of the images of a catalog.

    An image whose folder cannot be part of a reference (a capital letter, say) has none: no FROM can name it.

    Args:
        patterns: How images are published, e.g. `quay.io/jupyter/{name}` or `quay.io/jupyter/{family}:{name}`.
        images: Family and name of every image.

    Raises:
        BadInput: A pattern without {name}, with another field, or that makes no image reference.
    """

    def __init__(self, patterns: Sequence[str], images: Iterable[tuple[str, str]]) -> None:
        for pattern in patterns:
            _check_pattern(pattern)
        self._patterns = tuple(patterns)
        self._images: dict[tuple[str, str], list[str]] = {}
        for family, name in images:
            for pattern in patterns:
                try:
                    published = Reference.parse(pattern.format(family=family, name=name))
                except BadInput:
                    continue
                known = self._images.setdefault((published.name, published.tag), [])
                if f"{family}/{name}" not in known:
                    known.append(f"{family}/{name}")

    def resolve(self, reference: str) -> str | None:
        """The image that is published under a reference, as `<family>/<name>`; None when it is none of ours.

        The tag of the reference counts only for patterns that have one; without a tag, `latest` is meant.

        Raises:
            BadInput: It is no image reference, or several images are published under it.
        """
        asked = Reference.parse(reference)
        found = self._images.get((asked.name, asked.tag or "latest")) or self._images.get((asked.name, ""), [])
        if len(found) > 1:
            raise BadInput(
                f"{reference} is the published name of {' and '.join(found)}",
                hint="Publish with {family} in the pattern, or rename one of the images.",
            )
        return found[0] if found else None

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
            one, other = (Reference.parse(pattern.format(family=each, name=each)) for each in "ab")
            start = os.path.commonprefix([str(one), str(other)])  # noqa: RUF071 - characters are meant
            text = f"{asked.name}:{asked.version}" if one.tag and not asked.digest else asked.name
            if text.startswith(start) and asked.name.count("/") == one.name.count("/"):
                # What all of them have in common would make any two similar.
                ends = {each.removeprefix(start): each for each in known if each.startswith(start)}
                close = difflib.get_close_matches(text.removeprefix(start), ends, n=1)
                return known[ends[close[0]]] if close else ""
        return None


def _check_pattern(pattern: str) -> None:
    where = f"published-as {pattern!r}"
    try:
        fields = [field for field in Formatter().parse(pattern) if field[1] is not None]
    except ValueError:
        raise BadInput("a brace is not closed", where=where, hint=_HINT) from None
    for _, name, spec, conversion in fields:
        if name not in _FIELDS or spec or conversion:
            raise BadInput(f"{{{name}}} is no field, or not in its plain form", where=where, hint=_HINT)
    if all(field[1] != "name" for field in fields):
        raise BadInput("{name} is missing", where=where, hint=_HINT)
    try:
        reference = Reference.parse(pattern.format(family="family", name="name"))
    except BadInput as error:
        raise BadInput(error.what, where=where, hint=_HINT) from None
    if reference.digest:
        raise BadInput("a digest is no part of a published name", where=where, hint=_HINT)
