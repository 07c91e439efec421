"""Showing what changes in production, and which images to build after a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.catalog.reference import short_digest
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.options import print_json
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.release.dependents import dependents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.ledger import ReleaseRecord, TagChange
    from aml_images_dagster.settings import Settings


def changes_table(changes: Sequence[TagChange]) -> Table:
    """Tag by tag: the old digest and the new one."""
    table = new_table("tag", "old", "", "new", "")
    for change in changes:
        before, after = (short_digest(digest) if digest else "-" for digest in (change.before, change.after))
        table.add_row(escape(change.name), before, "→", after, _what(change))
    return table


def changes_document(changes: Sequence[TagChange]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [change.model_dump(mode="json") for change in changes]


def show_planned(change: TagChange, release_tag: str, said: str, as_json: bool) -> None:
    """The dry run of a change of one tag.

    Args:
        change: What would be changed.
        release_tag: The release that it is about.
        said: The same in a sentence.
        as_json: For a program.
    """
    if as_json:
        print_json({"image": change.image, "release_tag": release_tag, "changes": changes_document([change])})
        return
    console = open_console()
    console.print(changes_table([change]))
    console.print(f"Dry run: {escape(said)}. Nothing was changed.")


def show_done(record: ReleaseRecord | None, image: str, said: str, already: str, as_json: bool) -> None:
    """What has become of a change of one tag.

    Args:
        record: Its record; None when there was nothing to do.
        image: `<family>/<name>`.
        said: What is so now, in a sentence.
        already: What was so before, when there was nothing to do.
        as_json: For a program.
    """
    if as_json:
        print_json(record.model_dump(mode="json") if record else {"image": image, "changes": []})
        return
    console = open_console()
    if record is None:
        console.print(f"{escape(already)}: nothing was changed.")
        return
    console.print(changes_table(record.changes))
    console.print(f"\n[green]{escape(said)}[/]")


def offer_dependents(settings: Settings, backends: Backends, record: ReleaseRecord, console: Console) -> list[str]:
    """Say which images are FROM what was released, and how to build them; their names."""
    try:
        records = Ledger(backends.artifacts).records()
        found = list(dependents(record, load_source(settings).catalog, backends.artifacts, records))
    except FactoryError as fault:  # the release is done all the same
        console.print(f"[yellow]cannot say which images are FROM it[/]: {escape(str(fault))}")
        return []
    if found and settings.release.after_release == "build":
        console.print(f"The sensor after_release builds the images FROM it: {escape(', '.join(found))}")
    elif found:
        console.print("Images FROM it that are not released on it yet. To build them:")
        console.print(f"    aml-images build {' '.join(found)}", markup=False, soft_wrap=True)
    return found


def _what(change: TagChange) -> str:
    if change.before == change.after:
        return "[dim]unchanged[/]"
    if change.before is None:
        return "[green]new[/]"
    return "[bold yellow]moves[/]" if change.after else "[bold red]removed[/]"
