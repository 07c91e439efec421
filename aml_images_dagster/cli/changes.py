"""Showing what changes in production, and what is to be built after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.source import open_source
from aml_images_dagster.release.followers import followers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from aml_images_dagster.builds.ledger import ReleaseRecord, TagChange
    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.settings import Settings

_SHORT = len("sha256:") + 12


def changes_table(changes: Sequence[TagChange]) -> Table:
    """Tag by tag: the old digest and the new one."""
    table = Table(box=None, header_style="bold")
    for heading in ("tag", "old", "", "new", ""):
        table.add_column(heading, overflow="fold")
    for change in changes:
        table.add_row(escape(change.name), _short(change.before), "→", _short(change.after), _what(change))
    return table


def changes_document(changes: Sequence[TagChange]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [change.model_dump(mode="json") for change in changes]


def offer_followers(settings: Settings, parts: Parts, record: ReleaseRecord, console: Console) -> list[str]:
    """Say which images are FROM what was released, and how to build them; their names."""
    records = Ledger(parts.artifacts).records()
    found = list(followers(record, open_source(settings).catalogue, parts.artifacts, records))
    if found and settings.release.after_release == "build":
        console.print(f"The sensor after_release builds what is FROM it: {escape(', '.join(found))}")
    elif found:
        console.print("Images that are FROM it stand on an older release. To build them:")
        console.print(f"    aml-images build {' '.join(found)}", markup=False, soft_wrap=True)
    return found


def _short(digest: str | None) -> str:
    return digest[:_SHORT] if digest else "-"


def _what(change: TagChange) -> str:
    if change.before == change.after:
        return "[dim]unchanged[/]"
    if change.before is None:
        return "[green]new[/]"
    return "[bold yellow]moves[/]" if change.after else "[bold red]goes[/]"
