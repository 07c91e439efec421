"""Names of licences as SPDX expressions.

Sources: https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/ and https://spdx.org/licenses/. Each packaging
system has short names of its own: those of Debian's copyright files
(https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/), of Fedora before it took SPDX over
(https://docs.fedoraproject.org/en-US/legal/update-existing-packages/), and what people write.

A name counts as an SPDX identifier only where it means one licence. "BSD" and "GPL" do not, nor do most of Python's
classifiers (https://peps.python.org/pep-0639/#mapping-license-classifiers-to-spdx-identifiers): they become a
LicenseRef.
"""

from __future__ import annotations

import functools
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from license_expression import Licensing

LICENCE_REF = "LicenseRef-"
NOT_KNOWN = "NOASSERTION"
"""What SPDX calls a licence of which nothing is known."""
_LONGEST = 400
_LONGEST_REF = 60

_GNU = {
    f"{kind}{dash}{version}{suffix}": f"{kind}-{version if '.' in version else f'{version}.0'}-{spdx}"
    for kind, versions in {
        "GPL": ("1", "2", "3", "1.0", "2.0", "3.0"),
        "LGPL": ("2", "2.1", "3", "2.0", "3.0"),
        "AGPL": ("3", "3.0"),
        "GFDL": ("1.1", "1.2", "1.3"),
    }.items()
    for version in versions
    for dash in ("-", "v")
    for suffix, spdx in (("", "only"), ("+", "or-later"))
}
_SAME_AS = {
    name.lower(): identifier
    for name, identifier in {
        **_GNU,
        "Expat": "MIT",
        "MIT/Expat": "MIT",
        "MIT License": "MIT",
        "The MIT License": "MIT",
        "BSD 2-Clause": "BSD-2-Clause",
        "BSD 3-Clause": "BSD-3-Clause",
        "BSD 2-Clause License": "BSD-2-Clause",
        "BSD 3-Clause License": "BSD-3-Clause",
        "Apache-2": "Apache-2.0",
        "Apache 2.0": "Apache-2.0",
        "ASL 2.0": "Apache-2.0",
        "Apache License 2.0": "Apache-2.0",
        "Apache License, Version 2.0": "Apache-2.0",
        "Artistic": "Artistic-1.0-Perl",
        "Artistic-2": "Artistic-2.0",
        "MPL-2": "MPL-2.0",
        "MPLv2.0": "MPL-2.0",
        "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
        "ISC License": "ISC",
        "ISC License (ISCL)": "ISC",
        "PSF-2": "PSF-2.0",
        "zlib/libpng": "Zlib",
        "Boost": "BSL-1.0",
    }.items()
}


def expression(text: str) -> str:
    """What a packaging system or a person says of a licence, as an SPDX expression.

    Args:
        text: One name, or several with AND, OR, WITH and parentheses, or with the words of Debian: "A or B, and C".

    Returns:
        An expression in which each name that is no SPDX identifier is a LicenseRef; empty for an empty text.
    """
    return _expression(" ".join(text.split())[:_LONGEST])


def is_valid(text: str) -> bool:
    """Whether a text is an SPDX expression as it stands."""
    return bool(text) and _as_spdx(text) is not None


def all_of(expressions: Iterable[str]) -> str:
    """The expression of what is under all of several licences; empty for none."""
    several = set()
    for one in filter(None, expressions):
        several |= {one} if " OR " in one else set(one.split(" AND "))
    if len(several) == 1:
        return several.pop()
    return " AND ".join(f"({one})" if " OR " in one else one for one in sorted(several))


def matching(text: str, patterns: Collection[str]) -> tuple[str, ...]:
    """The licences in an expression that fit a pattern, and that nobody can avoid.

    Of AND those of all sides count; of OR none does while one side is free of them.

    Args:
        text: An SPDX expression; empty is the licence `NOASSERTION`, as SPDX names what is not known.
        patterns: Identifiers, or patterns with `*`, in any case. A licence WITH an exception is one of its own.
    """
    from license_expression import LicenseWithExceptionSymbol

    wanted = [pattern.casefold() for pattern in patterns]

    def fits(name: str) -> bool:
        return any(fnmatchcase(name.casefold(), pattern) for pattern in wanted)

    def found(node: Any) -> set[str]:
        if isinstance(node, LicenseWithExceptionSymbol) or not getattr(node, "args", ()):
            return {str(node)} if fits(str(node)) else set()
        sides = [found(side) for side in node.args]
        return set() if node.operator.strip() == "OR" and not all(sides) else set().union(*sides)

    return tuple(sorted(found(_spdx().parse(text or NOT_KNOWN, validate=False))))


def references(text: str) -> list[str]:
    """The LicenseRefs in an expression."""
    return re.findall(rf"{LICENCE_REF}[A-Za-z0-9.-]+", text)


@functools.lru_cache(maxsize=4096)
def _expression(text: str) -> str:
    if not text:
        return ""
    mapped = _SAME_AS.get(text.lower()) or _as_spdx(text)
    if mapped:
        return mapped
    # In Debian's format a comma joins later than "and" and "or" do; several names in one line are all meant.
    for separator in (r",\s*(and/or|and|or)\s+", r"\s+(or|and/or)\s+", r"\s+(and)\s+|\s+&\s+|\s*;\s*"):
        parts = re.split(separator, text, flags=re.IGNORECASE)
        if len(parts) > 1:
            return _joined(parts)
    return _reference(text)


def _joined(parts: list[str]) -> str:
    """The expression of texts with the words between them."""
    said = [_expression(part.strip()) for part in parts[::2]]
    words = {"OR" if word and "or" in word.lower() else "AND" for word in parts[1::2]}
    said = list(dict.fromkeys(filter(None, said)))
    if len(said) < 2:
        return "".join(said)
    word = "OR" if words == {"OR"} else "AND"
    return f" {word} ".join(f"({one})" if " " in one else one for one in said)


def _as_spdx(text: str) -> str | None:
    """The expression as SPDX spells it; None when it is none."""
    from license_expression import ExpressionError, ExpressionParseError

    spdx = _spdx()
    try:
        parsed = spdx.parse(text, validate=False, strict=True)
    except (ExpressionError, ExpressionParseError, ValueError, RecursionError):
        return None
    if parsed is None or not all(map(_is_reference, spdx.unknown_license_keys(parsed))):
        return None
    return str(parsed.render())


@functools.cache
def _spdx() -> Licensing:
    from license_expression import get_spdx_licensing  # its index of all licences takes a while to load

    licensing: Licensing = get_spdx_licensing()
    return licensing


def _is_reference(key: str) -> bool:
    return re.fullmatch(rf"{LICENCE_REF}[A-Za-z0-9.-]+", key) is not None


def _reference(text: str) -> str:
    bare = text.removeprefix(LICENCE_REF)
    return LICENCE_REF + (re.sub(r"[^A-Za-z0-9.]+", "-", bare)[:_LONGEST_REF].strip("-.") or "unnamed")
