"""What changed between two versions of an image, as Markdown: for pull requests, the UI, and release notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.image_difference import package_rows
from aml_images_dagster.catalog.reference import short_digest
from aml_images_dagster.text import code, code_block, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aml_images_dagster.builds.image_difference import ImageDifference, PackageRow, PlatformDifference

PACKAGE_TYPES = {
    "pypi": "Python packages",
    "conda": "Conda packages",
    "deb": "Debian packages",
    "rpm": "RPM packages",
    "apk": "Alpine packages",
}
"""How types of packages are titled; others by their type."""
_MOST_ROWS = 300


def as_markdown(difference: ImageDifference, *, with_source: bool = True) -> str:
    """The whole difference.

    Args:
        difference: What changed.
        with_source: Also the commits and the Dockerfile, which not everybody may see.
    """
    title = f"## {difference.image}: {difference.older} → {difference.newer}"
    sections = [title, *_major(difference), *_platforms(difference)]
    if with_source:
        sections += [*_bases(difference), *_commits(difference)]
        if difference.dockerfile:
            sections.append(f"**Dockerfile**\n\n{code_block(difference.dockerfile, 'diff')}")
    if difference.remarks:
        sections.append("\n".join(f"- {code(remark)}" for remark in difference.remarks))
    return "\n\n".join(sections) + "\n"


def packages_as_markdown(platform: PlatformDifference) -> str:
    """The packages that are not the same, a table for each type."""
    tables = [_table(kind, rows) for kind, rows in package_rows(platform.packages).items()]
    return "\n\n".join(tables) or "The same packages in the same versions."


def _major(difference: ImageDifference) -> Iterator[str]:
    if difference.major:
        lines = "\n".join(f"- {code(str(each))}" for each in difference.major)
        yield f"**May break users**\n\n{lines}"


def _platforms(difference: ImageDifference) -> Iterator[str]:
    for platform in difference.platforms:
        if len(difference.platforms) > 1:
            yield f"### {platform.platform}"
        yield packages_as_markdown(platform)
        new = [layer for layer in platform.layers if layer.is_new]
        yield (
            f"Size {_megabytes(platform.before_bytes)} → {_megabytes(platform.after_bytes)}; "
            f"{len(new)} of {counted(len(platform.layers), 'layer')} new, {_megabytes(platform.new_bytes)}"
        )
        if new:
            rows = (f"| {_cell(layer.created_by or layer.digest)} | {_megabytes(layer.size_bytes)} |" for layer in new)
            yield _rows("| new layer | size |", rows)


def _table(kind: str, rows: list[PackageRow]) -> str:
    return _rows(
        f"| {PACKAGE_TYPES.get(kind, kind)} | before | now |",
        (f"| {_cell(named(row))} | {_cell(row.before)} | {_cell(row.after)} |" for row in rows),
    )


def named(row: PackageRow) -> str:
    """The name of a row, with the number of packages that it stands for."""
    return f"{row.name} ({len(row.packages)} packages)" if len(row.packages) > 1 else row.name


def _rows(heading: str, rows: Iterable[str]) -> str:
    every = list(rows)
    more = [f"\nand {len(every) - _MOST_ROWS} more"] if len(every) > _MOST_ROWS else []
    columns = "|".join(["---"] * (heading.count("|") - 1))
    return "\n".join((heading, f"|{columns}|", *every[:_MOST_ROWS], *more))


def _cell(text: str) -> str:
    """A text in a table, where a bar ends the cell even in code."""
    return code(text).replace("|", "\\|") if text else "-"


def _bases(difference: ImageDifference) -> Iterator[str]:
    if difference.bases:
        rows = (
            f"| {_cell(base.reference)} | {_cell(short_digest(base.before))} | {_cell(short_digest(base.after))} |"
            for base in difference.bases
        )
        yield _rows("| base | before | now |", rows)


def _commits(difference: ImageDifference) -> Iterator[str]:
    if difference.commits:
        lines = (f"- {code(commit.name[:12])} {commit.date} {code(commit.subject)}" for commit in difference.commits)
        yield "**Commits**\n\n" + "\n".join(lines)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
