"""Which names an image folder may have: they become repositories, tags, job names and asset names."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable

# A path component of a repository; source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
_COMPONENT = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")
GROUPS_OF_THE_FACTORY = frozenset({"operations", "production", "release", "schedules", "upstream"})
"""Groups of assets that are of no family."""
_BUILD_SEPARATOR = "--"
_LONGEST_FAMILY = 64
# A tag has 128 characters; `--YYYYMMDD.xxxxxxxx` takes 19 of them.
_LONGEST_NAME = 128 - 19


def name_fault(family: str, name: str) -> str | None:
    """Why a registry would refuse an image of this family and name; None when it would not."""
    for what, text, longest in (("family", family, _LONGEST_FAMILY), ("image", name, _LONGEST_NAME)):
        if not _COMPONENT.fullmatch(text):
            return (
                f"the {what} name {text!r} does not fit a registry: "
                "lower-case letters and digits, with single . _ - or __ between them"
            )
        if len(text) > longest:
            return f"the {what} name {text!r} has {len(text)} characters; {longest} fit"
    if _BUILD_SEPARATOR in name:
        return f"the image name {name!r} contains {_BUILD_SEPARATOR!r}, which stands before the build in staging tags"
    return None


def plain_name(family: str, name: str) -> str:
    """What is left of a name where only letters, digits and one separator are allowed; two images must differ in it."""
    return re.sub(r"[^a-z0-9]+", "_", f"{family}/{name}".lower()).strip("_")


def group_name(family: str) -> str:
    """Group of a family's assets, beside those of the factory. Two families must differ in it.

    Dagster allows letters, digits and underscores.
    """
    name = re.sub(r"\W", "_", family)
    return f"{name}_images" if name in GROUPS_OF_THE_FACTORY else name


def full_name(name: str, ids: Iterable[str], absent: str, otherwise: str) -> str:
    """The image that a person names.

    Args:
        name: `<family>/<name>`, or the name alone when only one image has it.
        ids: The images that it may be, as `<family>/<name>`.
        absent: What is said when there is none.
        otherwise: How to fix that when none has a similar name.

    Raises:
        BadInput: There is no such image, or there are several.
    """
    known = sorted(ids)
    if name in known:
        return name
    named = [each for each in known if each.partition("/")[2] == name]
    if len(named) == 1:
        return named[0]
    if named:
        raise BadInput(f"several images are named {name!r}", hint=f"Say which one: {', '.join(named)}.")
    spelt = {**{each.partition("/")[2]: each for each in known}, **{each: each for each in known}}
    close = dict.fromkeys(spelt[match] for match in difflib.get_close_matches(name, spelt, n=3))
    likely = list(close) or [each for each in known if name and name in each][:3]
    raise BadInput(absent, hint=f"Did you mean {' or '.join(likely)}?" if likely else otherwise)
