"""The names under which images are published, so that a FROM leads back to the folder of its image."""

from __future__ import annotations

import re
from string import Formatter
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FIELDS = frozenset({"family", "name"})
_MEND = "A pattern is an image reference with {name} and perhaps {family}, e.g. mcr.microsoft.com/azureml/{name}."


class PublishedNames:
    """Published names of the images of a catalogue.

    Args:
        patterns: How images are published, e.g. `quay.io/jupyter/{name}` or `quay.io/jupyter/{family}:{name}`.
        images: Family and name of every image.

    Raises:
        BadInput: A pattern without {name}, with another field, or that makes no image reference.
    """

    def __init__(self, patterns: Sequence[str], images: Iterable[tuple[str, str]]) -> None:
        for pattern in patterns:
            _check_pattern(pattern)
        self._images: dict[tuple[str, str], list[str]] = {}
        for family, name in images:
            for pattern in patterns:
                published = _parse(pattern.format(family=family, name=name), pattern)
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
                mend="Publish with {family} in the pattern, or rename one of the images.",
            )
        return found[0] if found else None


def _check_pattern(pattern: str) -> None:
    try:
        fields = [field for _, field, _, _ in Formatter().parse(pattern) if field is not None]
    except ValueError:
        raise BadInput(f"published-as {pattern!r}: a brace is not closed", mend=_MEND) from None
    unknown = sorted(set(fields) - _FIELDS)
    if unknown:
        raise BadInput(f"published-as {pattern!r} has the unknown field {{{unknown[0]}}}", mend=_MEND)
    if "name" not in fields:
        raise BadInput(f"published-as {pattern!r} has no {{name}}", mend=_MEND)
    _parse(re.sub(r"\{[^}]*\}", "x", pattern), pattern)


def _parse(published: str, pattern: str) -> Reference:
    try:
        reference = Reference.parse(published)
    except BadInput as error:
        raise BadInput(f"published-as {pattern!r}: {error.what}", mend=_MEND) from None
    if reference.digest:
        raise BadInput(f"published-as {pattern!r} has a digest", mend=_MEND)
    return reference
