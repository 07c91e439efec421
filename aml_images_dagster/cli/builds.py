"""`aml-images builds`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.catalog.git import DIRTY
from aml_images_dagster.catalog.image_name import full_name
from aml_images_dagster.cli.arguments import IMAGE, require_images
from aml_images_dagster.cli.console import new_table, open_console, print_error
from aml_images_dagster.cli.instance_home import existing_home
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.profiles import backends_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aml_images_dagster.builds.records import BuildRecord, BuildStatus
    from aml_images_dagster.settings import Settings

COLOURS: dict[BuildStatus, str] = {
    "succeeded": "green",
    "failed": "red",
    "canceled": "yellow",
    "running": "cyan",
    "partial": "dim",
    "expired": "dim",
    "removed": "dim",
}


def waits_of(settings: Settings, records: Iterable[BuildRecord]) -> dict[str, str]:
    """What builds wait for, by their numbers, as this machine's Dagster instance knows; only of those that wait."""
    runs = {record.run_id: record.build for record in records if record.status == "running"}
    home = existing_home(settings)
    if not runs or home is None:
        return {}
    from aml_images_dagster.cli.instance import waiting_runs  # Dagster takes seconds to import

    return {runs[run]: found for run, found in waiting_runs(home, runs).items()}


def release_state(history: History, build: str) -> str:
    """How the release of a build stands, in a word or two; empty if none has started."""
    release = history.of_build(build)
    if release is None:
        return ""
    return "release not completed" if release.state == "not completed" else release.state


@click.command("builds")
@click.option("--image", metavar="IMAGE", type=IMAGE, help="Only builds of this image.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Only the newest N of them.")
@click.option("--released", is_flag=True, help="Only builds that are released, or whose release has begun.")
@common_options
def command(settings: Settings, as_json: bool, image: str | None, limit: int | None, released: bool) -> None:
    """Show all builds, newest first."""
    artifacts = backends_for(settings).artifacts
    every = artifacts.builds(print_error)
    if not every:
        require_images(settings)
    found = every
    history = History(Ledger(artifacts).records())
    if image is not None:
        known = {name for _, record in every for name in record.images}
        image = full_name(image, known, f"no build has an image {image!r}", "`aml-images builds` shows all builds.")
        found = [(folder, record) for folder, record in found if image in record.images]
    if released:
        found = [(folder, record) for folder, record in found if history.of_build(record.build)]
    found = found[:limit]
    waits = waits_of(settings, [record for _, record in found])
    if as_json:
        print_json(
            [
                {
                    "build": record.build,
                    "status": record.status,
                    "waiting": waits.get(record.build, ""),
                    "commit": record.commit,
                    "release_tag": record.release_tag,
                    "release": release_state(history, record.build),
                    "trigger": record.trigger,
                    "pull_request": record.pull_request,
                    "created": record.created.isoformat(),
                    "artifacts": folder.root.as_uri(),
                    "images": list(record.images),
                }
                for folder, record in found
            ]
        )
        return
    table = new_table("build", "status", "created", "started by", "commit", "release tag", "images")
    table.columns[1].no_wrap = not waits  # one word
    for _, record in found:
        table.add_row(
            record.build,
            "\n".join(filter(None, (f"[{COLOURS[record.status]}]{record.status}[/]", waits.get(record.build)))),
            f"{record.created:%Y-%m-%d %H:%M:%S}",
            escape(record.started_by) or "-",
            record.commit[:12] + (DIRTY if record.commit.endswith(DIRTY) else ""),
            "\n".join(filter(None, (record.release_tag, release_state(history, record.build)))),
            escape("\n".join(record.images)),
        )
    console = open_console()
    if every and not found:
        console.print("No such builds.")
        return
    if not found:
        console.print(f"No builds in {escape(settings.artifacts_uri)} yet.")
        return
    console.print(table)
    console.print(f"Artifacts: {escape(settings.artifacts_uri)}/BUILD")
