"""What changed between two versions of an image, as Markdown: for pull requests, the UI, and release notes.

Names and texts come from images, scanners and repositories, whoever made them: they are shown as code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aml_images_dagster.builds.versions.image_difference import package_rows
from aml_images_dagster.catalog.reference import short_digest
from aml_images_dagster.text import code, code_block, counted, first_of, size_in_words
from aml_images_dagster.vulnerabilities.vulnerability import counted_vulnerabilities

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aml_images_dagster.builds.versions.image_difference import (
        BaseChange,
        ImageDifference,
        PackageRow,
        PlatformDifference,
    )
    from aml_images_dagster.vulnerabilities.vulnerability import Vulnerability, VulnerabilityChanges

PACKAGE_TYPES = {
    "pypi": "Python packages",
    "conda": "Conda packages",
    "deb": "Debian packages",
    "rpm": "RPM packages",
    "apk": "Alpine packages",
}
"""How types of packages are titled; others by their type."""
_MOST_ROWS = 300
_MOST_ROWS_IN_SHORT = 20
_MOST_NAMED = 100
_UNNAMED = "a security update that names no CVE"


def as_markdown(difference: ImageDifference) -> str:
    """The whole difference."""
    title = f"## {difference.image}: {difference.older} → {difference.newer}"
    return "\n\n".join((title, *sections(difference))) + "\n"


def sections(
    difference: ImageDifference, *, public_bases: Iterable[str] | None = None, with_left: bool = False
) -> list[str]:
    """The whole difference, without a title.

    Args:
        difference: What changed.
        public_bases: Show only what everybody may see: of the bases these, no instructions, no commits, no Dockerfile,
            and nothing of what is not known. None shows all.
        with_left: Also list the vulnerabilities that the newer image has, new or not.
    """
    shown = [*_major(difference), *_vulnerabilities(difference)]
    if with_left and difference.vulnerabilities:
        shown += vulnerabilities_left(difference.vulnerabilities)
    if public_bases is not None:
        known = set(public_bases)
        shown += _platforms(difference, _MOST_ROWS)
        return [*shown, *_bases((each for each in difference.bases if each.reference in known), _MOST_ROWS)]
    shown += [*_platforms(difference, _MOST_ROWS, with_layers=True), *_bases(difference.bases, _MOST_ROWS)]
    shown += _commits(difference)
    if difference.dockerfile:
        shown.append(f"**Dockerfile**\n\n{code_block(difference.dockerfile, 'diff')}")
    return [*shown, *_remarks(difference)]


def short_sections(difference: ImageDifference) -> list[str]:
    """What reviewers of a pull request want to know, in bounded length; they have the commits and the Dockerfile."""
    most = _MOST_ROWS_IN_SHORT
    return [
        *_vulnerabilities(difference, most),
        *_platforms(difference, most),
        *_bases(difference.bases, most),
        *_remarks(difference),
    ]


def _major(difference: ImageDifference) -> Iterator[str]:
    if difference.major:
        lines = "\n".join(f"- {code(str(each))}" for each in difference.major)
        yield f"**May break users**\n\n{lines}"


def _platforms(difference: ImageDifference, most: int, *, with_layers: bool = False) -> Iterator[str]:
    for platform in difference.platforms:
        if len(difference.platforms) > 1:
            yield f"**{platform.platform}**"
        yield _tables(platform, most)
        yield _size(platform)
        new = [layer for layer in platform.layers if layer.is_new]
        if new and with_layers:
            named = ((_cell(layer.created_by or layer.digest), size_in_words(layer.size_bytes)) for layer in new)
            rows = (f"| {layer} | {size} |" for layer, size in named)
            yield _rows("| new layer | size |", rows)


def _size(platform: PlatformDifference) -> str:
    new = [layer for layer in platform.layers if layer.is_new]
    return (
        f"Size {size_in_words(platform.before_bytes)} → {size_in_words(platform.after_bytes)}; "
        f"{len(new)} of {counted(len(platform.layers), 'layer')} new, {size_in_words(platform.new_bytes)}"
    )


def _tables(platform: PlatformDifference, most: int) -> str:
    """The packages that are not the same, a table for each type."""
    tables = [
        _rows(
            f"| {PACKAGE_TYPES.get(kind, kind)} | before | now |",
            (f"| {_cell(named(row))} | {_cell(row.before)} | {_cell(row.after)} |" for row in rows),
            most,
        )
        for kind, rows in package_rows(platform.packages).items()
    ]
    return "\n\n".join(tables) or "The same packages in the same versions."


def named(row: PackageRow) -> str:
    """The name of a row, with the number of packages that it stands for."""
    return f"{row.name} ({len(row.packages)} packages)" if len(row.packages) > 1 else row.name


def _vulnerabilities(difference: ImageDifference, most: int = _MOST_ROWS) -> Iterator[str]:
    found = difference.vulnerabilities
    if found is None:
        return
    if found.fixed:
        rows = [
            f"| {_cell(name)} | {_cell(before)} | {_cell(after)} | {_named_ids(several)} |"
            for (name, before, after), several in _by_package(difference, found.fixed).items()
        ]
        number = counted_vulnerabilities(found.fixed)
        yield f"**Vulnerabilities fixed: {number}**\n\n{_rows('| package | before | now | fixed |', rows, most)}"
    if found.new:
        yield f"**New vulnerabilities: {counted_vulnerabilities(found.new)}**\n\n{_list(found.new, most)}"
    yield who_looked(found)


def vulnerabilities_left(found: VulnerabilityChanges) -> Iterator[str]:
    """The vulnerabilities that the newer image has: those with a fix as a table, of others the names."""
    fixable = [each for each in found.left if each.fixed_in]
    others = {each.id for each in found.left} - {each.id for each in fixable}
    if fixable:
        number = counted_vulnerabilities(fixable)
        yield f"**Vulnerabilities left that have a fix: {number}**\n\n{_list(fixable, _MOST_ROWS)}"
    if others:
        names = [*map(code, sorted(others, key=_in_order))]
        yield f"**Vulnerabilities left without a fix: {len(names)}**\n\n{first_of(names, _MOST_NAMED)}"
    if found.looked and not found.left:
        yield "No known vulnerability is left."


def who_looked(found: VulnerabilityChanges) -> str:
    """Which sources know what is said of vulnerabilities, and which do not; with none of them nothing is known."""
    sources = ", ".join(found.looked)
    looked = f"Vulnerability sources: {sources}." if sources else "Nobody has looked for vulnerabilities."
    missing = (f"{who}: {code(why)}." for who, why in found.missing)
    return " ".join((looked, *missing))


def _by_package(
    difference: ImageDifference, several: Iterable[Vulnerability]
) -> dict[tuple[str, str, str], list[Vulnerability]]:
    """Vulnerabilities by what has fixed them: a source package of Debian, another package, and its versions."""
    changes = {(each.type, each.name): each for platform in difference.platforms for each in platform.packages}
    found: dict[tuple[str, str, str], list[Vulnerability]] = {}
    for each in several:
        change = changes.get((each.type, each.package))
        if change is None:
            key = (each.package, each.installed, "")
        else:
            name = change.source if change.type == "deb" else change.name
            key = (name, ", ".join(change.before), ", ".join(change.after))
        found.setdefault(key, []).append(each)
    return dict(sorted(found.items()))


def _named_ids(several: Iterable[Vulnerability]) -> str:
    """Identifiers, each with its advisories: `CVE-2023-5363` (`DSA-5532-1`)."""
    advisories: dict[str, dict[str, None]] = {}
    for each in several:
        name = each.id if each.has_identifier else _UNNAMED
        advisories.setdefault(name, {}).update(dict.fromkeys(each.advisories))
    return ", ".join(
        (identifier if identifier == _UNNAMED else _cell(identifier))
        + (f" ({', '.join(map(_cell, advisories[identifier]))})" if advisories[identifier] else "")
        for identifier in sorted(advisories, key=_in_order)
    )


def _list(several: Iterable[Vulnerability], most: int) -> str:
    """A row for each vulnerability and fix, with the packages that it is in."""
    packages: dict[tuple[str, str, str], list[Vulnerability]] = {}
    for each in several:
        packages.setdefault((each.id, each.installed, each.fixed_in), []).append(each)
    return _rows(
        "| vulnerability | packages | installed | fixed in | severity |",
        (
            f"| {_named_ids(found)} | {_cell(', '.join(dict.fromkeys(each.package for each in found)))} | "
            f"{_cell(installed)} | {_cell(fixed)} | {found[0].severity} |"
            for (_, installed, fixed), found in packages.items()
        ),
        most,
    )


def _in_order(identifier: str) -> tuple[tuple[int, str], ...]:
    """CVE-2024-900 comes before CVE-2024-10000."""
    parts = re.split(r"(\d{1,18})", identifier)
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in parts)


def _rows(heading: str, rows: Iterable[str], most: int = _MOST_ROWS) -> str:
    every = list(rows)
    more = [f"\nand {len(every) - most} more"] if len(every) > most else []
    columns = "|".join(["---"] * (heading.count("|") - 1))
    return "\n".join((heading, f"|{columns}|", *every[:most], *more))


def _cell(text: str) -> str:
    """A text in a table, where a bar ends the cell even in code."""
    return code(text).replace("|", "\\|") if text else "-"


def _bases(bases: Iterable[BaseChange], most: int) -> Iterator[str]:
    """Bases that are not the same, as a table; nothing where they are."""
    rows = [
        f"| {_cell(base.reference)} | {_cell(short_digest(base.before))} | {_cell(short_digest(base.after))} |"
        for base in bases
    ]
    if rows:
        yield _rows("| base | before | now |", rows, most)


def _commits(difference: ImageDifference) -> Iterator[str]:
    if difference.commits:
        lines = (f"- {code(commit.name[:12])} {commit.date} {code(commit.subject)}" for commit in difference.commits)
        yield "**Commits**\n\n" + "\n".join(lines)


def _remarks(difference: ImageDifference) -> Iterator[str]:
    if difference.remarks:
        yield "\n".join(f"- {code(remark)}" for remark in difference.remarks[:_MOST_ROWS_IN_SHORT])
