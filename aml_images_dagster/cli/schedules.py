"""`aml-images schedules`."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
from rich.markup import escape

from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.instance_home import existing_home
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.schedules import FOLDER, patches_published, patches_to_come, read_timetable, ticks
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.schedules import Schedule
    from aml_images_dagster.settings import Settings


@click.command("schedules")
@click.option(
    "--next", "number", metavar="N", type=click.IntRange(1, 100), default=3, show_default=True, help="Dates to show."
)
@common_options
def command(settings: Settings, as_json: bool, number: int) -> None:
    """Show the next dates of each schedule, and what it would start then. Starts nothing.

    The images are those of the working tree; a schedule builds the main branch as it is on that day.
    """
    tree = WorkingTree(settings.repo)
    catalog = load_catalog(settings, tree)
    timetable = read_timetable(tree, catalog)
    states = _states(settings)
    found = [
        _document(schedule, catalog, states.get(schedule.dagster_name, settings.is_automatic), number)
        for schedule in timetable.schedules
    ]
    if as_json:
        print_json({"schedules": found, "findings": [finding.document() for finding in timetable.findings]})
        return
    console = open_console()
    for finding in timetable.findings:
        console.print(escape(str(finding)), style="yellow")
    if not found:
        console.print(f"No schedules in {FOLDER}/.")
    for schedule in found:
        _show(schedule)


def _document(schedule: Schedule, catalog: Catalog, is_on: bool, number: int) -> dict[str, Any]:
    file = schedule.file
    dates = islice(ticks(file.cron, file.timezone, datetime.now(UTC)), number)
    return {
        "name": file.name,
        "file": schedule.path,
        "cron": file.cron,
        "timezone": file.timezone,
        "is_on": is_on,
        "force": file.force,
        "release": file.release,
        "dates": [_date(schedule, catalog, tick) for tick in dates],
    }


def _date(schedule: Schedule, catalog: Catalog, tick: datetime) -> dict[str, Any]:
    local = tick.astimezone(ZoneInfo(schedule.file.timezone))
    return {
        "at": local.isoformat(),
        "patch_tuesday": patches_published(local.year, local.month).isoformat(),
        "after_patch_tuesday": patches_to_come(local) is None,
        "images": sorted(schedule.images(catalog, local.date())),
    }


def _states(settings: Settings) -> dict[str, bool]:
    """Which schedules were switched on or off in the Dagster instance, if there is one; the others are as set up."""
    home = existing_home(settings)
    if home is None:
        return {}
    from aml_images_dagster.cli.instance import schedules_switched

    return schedules_switched(home)


def _show(schedule: dict[str, Any]) -> None:
    console = open_console()
    is_on = "[green]on[/]" if schedule["is_on"] else "[yellow]off[/]: switch it on in the UI, page Automation"
    console.print(f"[bold]{schedule['name']}[/] is {is_on}")
    console.print(f"[dim]{schedule['file']}: {escape(schedule['cron'])}, {schedule['timezone']}[/]")
    release = {
        "none": "not for release",
        "approval": "released when a person approves, to be done on that day",
        "automatic": "released automatically",
    }
    how = "everything is built and tested again" if schedule["force"] else "what has passed is reused"
    console.print(f"A build of these images starts; {how}; {release[schedule['release']]}.")
    table = new_table("date", "Patch Tuesday", "images")
    for date in schedule["dates"]:
        at, patches = datetime.fromisoformat(date["at"]), datetime.fromisoformat(date["patch_tuesday"])
        passed = "passed by then" if date["after_patch_tuesday"] else "[yellow]still to come then[/]"
        images = date["images"]
        table.add_row(
            f"{at:%a %Y-%m-%d %H:%M %Z}",
            f"{patches:%d %b}, {passed}",
            f"{counted(len(images), 'image')}\n{escape(chr(10).join(images))}" if images else "none: nothing starts",
        )
    console.print(table)
    console.print()
