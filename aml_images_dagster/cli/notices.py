"""`aml-images notices IMAGE`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.compliance.notices import drift, find_components
from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.builds.versions.image_lookup import is_reference
from aml_images_dagster.catalog.image import NOTICES_FILE, NOTICES_LOCK
from aml_images_dagster.catalog.notices import NoticesLock, head_of, new_head, notices_text, sharing
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.arguments import IMAGE, build_named
from aml_images_dagster.cli.console import Facts, new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.compliance.notices import FoundComponents, NoticesChange
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings


@click.command("notices")
@click.argument("image", type=IMAGE)
@click.option(
    "--of",
    "source",
    default="",
    metavar="BUILD|REFERENCE",
    help="Look at the image of this build (the start of the number is enough), or at any in a registry. Default: that "
    "of the newest build, else the last that was released.",
)
@click.option("--write", is_flag=True, help="Bring the notices and their lock up to date.")
@common_options
def command(settings: Settings, as_json: bool, image: str, source: str, write: bool) -> None:
    """Show in which components an image and its notices differ (drift).

    Drift is a component that was added or removed, another licence, and another version of what the folder pins.
    --write writes the lock, and the part of ThirdPartyNotices.txt below the line that says so; what is above stays.

    Exit codes: 0 no drift, no lock is kept, or written; 1 drift, 2 there is no such image, or an input is wrong.
    """
    tree = WorkingTree(settings.repo)
    catalog = load_catalog(settings, tree)
    found = catalog.get(image)
    others = sharing(found, catalog)
    if others:
        raise BadInput(
            f"its folder has {' and '.join(others)} as well, and a lock is of one image",
            where=found.id,
            hint=f"Write {NOTICES_FILE} by hand.",
        )
    console = open_console(stderr=True)
    if not is_reference(source):
        source = build_named(settings, source, latest=True)
    looked = find_components(
        found, source, tree, catalog, backends_for(settings), settings, lambda line: console.print(line, markup=False)
    )
    is_kept = found.file(NOTICES_LOCK) in tree.files()
    changes = drift(tree, found, looked.components) if is_kept else ()
    if write:
        _write(settings, tree, found, looked)
    if as_json:
        print_json(
            {
                "image": found.id,
                "of": looked.of,
                "lock": is_kept or write,
                "written": write,
                "components": [component.model_dump() for component in looked.components],
                "drift": [change.document() for change in changes],
            }
        )
    else:
        _show(found, looked, changes, is_kept=is_kept, is_written=write)
    sys.exit(1 if changes and not write else 0)


def _write(settings: Settings, tree: WorkingTree, image: Image, looked: FoundComponents) -> None:
    notices, lock_file = image.file(NOTICES_FILE), image.file(NOTICES_LOCK)
    for path in (notices, lock_file):
        if path in tree.links:
            raise BadInput(
                "it is a link, and what it leads to would be changed",
                where=path,
                hint="Put a file of its own into the folder.",
            )
    head = new_head(image)
    if notices in tree.files():
        try:
            head = head_of(tree.read(notices).decode())
        except UnicodeDecodeError:
            raise BadInput("the file is not UTF-8", where=notices, hint="Save it as UTF-8.") from None
    lock = NoticesLock(components=looked.components)
    for path, text in ((notices, notices_text(head, lock)), (lock_file, lock.text())):
        (settings.repo / path).write_text(text, encoding="utf-8", newline="\n")


def _show(
    image: Image, looked: FoundComponents, changes: Sequence[NoticesChange], *, is_kept: bool, is_written: bool
) -> None:
    console = open_console()
    if changes:
        table = new_table("component", "type", "drift", "lock", "image", "of the base", NOTICES_LOCK, NOTICES_FILE)
        for change in changes:
            table.add_row(
                escape(change.component.name),
                escape(change.component.type),
                change.what,
                escape(change.before) or "-",
                escape(change.after) or "-",
                "yes" if change.component.base else "",
                f"line {change.lock_line}",
                f"line {change.notices_line}",
            )
        console.print(table)
        console.print()
    of_base = sum(component.base for component in looked.components)
    facts = {
        "image": image.id,
        "looked at": looked.of,
        "components": f"{len(looked.components)}, {of_base} of the base",
        "folder": image.path or ".",
    }
    console.print(Facts((fact, escape(value)) for fact, value in facts.items()))
    console.print()
    if is_written:
        console.print(f"Written: {NOTICES_FILE}, {NOTICES_LOCK}.")
    elif not is_kept:
        console.print("No lock is kept. --write makes one.")
    else:
        console.print(f"[bold red]Drift: {counted(len(changes), 'component')}.[/]" if changes else "No drift.")
