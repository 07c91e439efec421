"""`aml-images doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.planning.prerequisites import prerequisites
from aml_images_dagster.checks import Check, CheckResult, perform_all
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.instance_home import existing_home, instance_home
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from rich.table import Table

    from aml_images_dagster.checks import Purpose
    from aml_images_dagster.settings import Settings


@click.command("doctor")
@click.option(
    "--seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Time limit for all checks together, in seconds.",
)
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["build", "release"]),
    help="What is to be done here; what only the other needs is left out. Default: both.",
)
@click.argument("images", nargs=-1, metavar="[IMAGE...]", type=IMAGE)
@common_options
def command(
    settings: Settings, as_json: bool, seconds: float, purpose: Purpose | None, images: tuple[str, ...]
) -> None:
    """Check everything a build and a release need, and show how to fix what is missing. Starts nothing.

    With IMAGE: checks only the bases of these images and what else they need. Without: images that cannot be built here
    are one line, and no failure as long as others can be built.

    Exit codes: 0 all checks passed, 1 a check failed, 2 the settings are wrong.
    """
    backends = backends_for(settings)
    backends.import_sdks()
    checks = (*prerequisites(settings, backends, images), Check("Dagster", lambda: _dagster(settings)))
    results = perform_all([each for each in checks if each.is_needed_for(purpose)], seconds)
    # An image that cannot be built here is no failure, unless none can be.
    blocked = {image for result in results if not result.ok for image in result.images}
    is_partial = bool(blocked) and blocked != {image for result in results for image in result.images}
    failed = [result for result in results if not result.ok and not (is_partial and result.images)]
    if as_json:
        documents = [asdict(result) | {"mend": result.hint} for result in results]
        print_json({"profile": settings.profile, "checks": documents})
    else:
        console = open_console()
        console.print(_table([result for result in results if result.ok or result in failed]))
        if is_partial:
            missing = ", ".join(result.name for result in results if not result.ok and result not in failed)
            what = f"{counted(len(blocked), 'image')} cannot be built here, for lack of {escape(missing)}"
            console.print(f"[yellow]{what}[/]. `aml-images doctor IMAGE` shows why.")
        console.print(
            f"{len(failed)} of {len(results)} checks failed."
            if failed
            else f"All {'other ' if is_partial else ''}checks passed."
        )
    sys.exit(1 if failed else 0)


def _table(results: list[CheckResult]) -> Table:
    table = new_table("        what", "found", "hint")
    for result in results:
        mark = "[green]ok[/]    " if result.ok else "[bold red]failed[/]"
        table.add_row(f"{mark}  {escape(result.name)}", escape(result.found), escape(result.hint))
    return table


def _dagster(settings: Settings) -> str:
    """The instance as it is; a build makes one where there is none."""
    home = existing_home(settings)
    if home is None:
        return f"no instance in {instance_home(settings)} yet: the first build creates it"
    from aml_images_dagster.cli.instance import existing_instance  # Dagster takes seconds to import

    with existing_instance(home) as instance:
        runs = instance.get_runs_count()
        daemons = instance.get_daemon_statuses()
    healthy = bool(daemons) and all(status.healthy for status in daemons.values() if status.required)
    daemon = "running" if healthy else "not running (only sensors and schedules need it)"
    return f"{home}, {counted(runs, 'run')}, daemon {daemon}"
