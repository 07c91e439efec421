"""`aml-images fleet`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.source import load_source
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput
from aml_images_dagster.fleet.collection import collect_fleet
from aml_images_dagster.fleet.fleet import NAMES
from aml_images_dagster.fleet.page import (
    age_in_words,
    base_in_words,
    fleet_page,
    found_in_words,
    left_in_words,
    signed_in_words,
    tests_in_words,
)
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.text import size_in_words

if TYPE_CHECKING:
    from rich.console import Console

    from aml_images_dagster.fleet.fleet import Fleet, LastBuild, Row
    from aml_images_dagster.settings import Settings

_COLOURS = {"act": "bold red", "watch": "yellow", "good": "green", "unreleased": "dim"}


@click.command("fleet")
@click.option(
    "--html", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write it as one HTML file."
)
@common_options
def command(settings: Settings, as_json: bool, html: Path | None) -> None:
    """Show every image in production, what needs a person first.

    That is what production serves and since when, the days left for the oldest fix that it lacks, findings, whether its
    base has changed, the last build, tests, size, owner, end of life and signature. Findings are those of the last
    daily scan; nothing is scanned now.
    """
    fleet = collect_fleet(load_source(settings), backends_for(settings), settings, datetime.now(UTC))
    if html is not None:
        try:
            html.write_text(fleet_page(fleet), "utf-8")
        except OSError as error:
            raise BadInput(
                f"the page cannot be written: {error.strerror}", where=str(html), hint="Name another file."
            ) from None
    if as_json:
        print_json(fleet.document())
    elif html is None:
        _show(open_console(), fleet)
    else:
        open_console().print(f"{fleet.summary}. Written to {html}.", markup=False)


def _show(console: Console, fleet: Fleet) -> None:
    table = new_table(
        "image", "status", "in production", "age", "left", "findings", "base", "last build", "tests", "size", "owner",
        "end of life", "signed",
    )  # fmt: skip
    for row in fleet.rows:
        table.add_row(*_cells(row))
    if fleet.rows:
        console.print(table)
        console.print()
    console.print(f"{fleet.summary[0].upper()}{fleet.summary[1:]}.", markup=False)


def _cells(row: Row) -> tuple[str, ...]:
    image, served, build = row.facts, row.facts.served, row.facts.last_build
    colour = _COLOURS[row.status]
    concerns = "".join(f"\n{concern.text}" for concern in row.concerns)
    since = f"{served.since:%Y-%m-%d}" if served and served.since else ""
    released = "\n".join(filter(None, (served.tag or served.digest[:19], since))) if served else image.unknown
    return (
        escape(image.image),
        f"[{colour}]{NAMES[row.status]}[/]{escape(concerns)}",
        escape(released) or "-",
        age_in_words(row),
        left_in_words(row) if served else "",
        found_in_words(row) if served else "",
        base_in_words(row),
        escape(f"{build.build} {build.ending}\n{_why(build)}".strip()) if build else "-",
        tests_in_words(row),
        size_in_words(served.sizes[-1]) if served and served.sizes else "",
        escape("\n".join(image.owners)),
        str(image.eol or ""),
        signed_in_words(row),
    )


def _why(build: LastBuild) -> str:
    """Why a build failed, in one line and without its hint; else why it built."""
    return next(iter(build.failure.splitlines()), build.why)
