"""Which names an image folder may have: they become repositories, tags, job names and asset names."""

from __future__ import annotations

import re

# A path component of a repository; source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
_COMPONENT = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")
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
