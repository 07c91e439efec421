"""`aml-images releases`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import Ledger, released_images
from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.image_name import full_name
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.arguments import IMAGE, require_images
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for

if TYPE_CHECKING:
    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.settings import Settings


@click.command("releases")
@click.argument("image", required=False, metavar="[IMAGE]", type=IMAGE)
@common_options
def command(settings: Settings, as_json: bool, image: str | None) -> None:
    """Show releases, rollbacks and withdrawals, newest first."""
    records = Ledger(backends_for(settings).artifacts).records()
    if not records:
        require_images(settings)
    if image is not None:
        known = released_images(records) | _images(settings)
        absent = f"there is no image {image!r}, and none of this name was released"
        image = full_name(image, known, absent, "`aml-images releases` lists what was released.")
    unfinished = History(records).unfinished()
    shown = [
        record
        for record in reversed(records)
        if (record.done or record in unfinished)
        and (image is None or image in {change.image for change in record.changes})
    ]
    if as_json:
        print_json([record.model_dump(mode="json") for record in shown])
        return
    table = new_table("when", "what", "release tag", "build", "images", "who", "why")
    for column in table.columns[2:4]:
        column.no_wrap = True
    for record in shown:
        table.add_row(
            f"{record.when:%Y-%m-%d %H:%M:%S}",
            record.action if record.done else f"[bold yellow]{record.action}, not completed[/]",
            record.release_tag,
            record.build,
            escape("\n".join(dict.fromkeys(change.image for change in record.changes))),
            escape(record.who),
            escape(_why(record)),
        )
    nothing = f"{image} has no releases." if image else "There are no releases yet."
    open_console().print(table if shown else escape(nothing))


def _images(settings: Settings) -> set[str]:
    """The images that are there now; what was released is shown also where their folders are not."""
    try:
        return set(load_catalog(settings, WorkingTree(settings.repo)).images)
    except BadInput:
        return set()


def _why(record: ReleaseRecord) -> str:
    outside = f"outside of the window: {record.outside_window}" if record.outside_window else ""
    accepted = f"accepted: {', '.join(record.accepted_major)}" if record.accepted_major else ""
    return "; ".join(filter(None, (record.reason, outside, accepted)))
