"""`aml-images logs BUILD`."""

from __future__ import annotations

import difflib
import time
from typing import TYPE_CHECKING

import click

from aml_images_dagster.catalog.image_name import full_name
from aml_images_dagster.cli.arguments import BUILD, IMAGE_OF_BUILD, build_named
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.instance_home import existing_home
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.cli.status import find_build
from aml_images_dagster.errors import BadInput
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from rich.console import Console

    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.records import BuildRecord
    from aml_images_dagster.settings import Settings

_POLL_SECONDS = 1.0


@click.command("logs")
@click.argument("build", type=BUILD)
@click.argument("image", required=False, metavar="[IMAGE", type=IMAGE_OF_BUILD)
@click.argument("scenario", required=False, metavar="[SCENARIO]]")
@click.option("--follow", is_flag=True, help="Keep printing until the build has ended.")
@common_options
def command(
    settings: Settings, as_json: bool, build: str, image: str | None, scenario: str | None, follow: bool
) -> None:
    """Show what BUILD has printed: its steps, and each node of its tests. BUILD may be `latest`.

    With IMAGE, what its steps and its tests have printed; with SCENARIO, what the nodes of that test have.
    """
    if as_json and follow:
        raise BadInput("--json and --follow cannot be combined", where="logs", hint="Give one of them.")
    folder, record = find_build(settings, build_named(settings, build, latest=True))
    if image is not None:
        absent = f"build {record.build} has no image {image!r}"
        image = full_name(image, record.images, absent, f"It has {', '.join(record.images)}.")
    if image is not None and scenario is not None:
        _check_scenario(folder, record, image, scenario)
    if as_json:
        print_json({"build": record.build, "logs": dict(_logs(settings, folder, record, image, scenario))})
        return
    shown: dict[str, int] = {}
    console = open_console()
    has_ended = False
    while True:
        printed: set[str] = set()
        for name, text in _logs(settings, folder, record, image, scenario):
            # Tests on this machine print into their step as well, and their own logs come after those of the steps.
            if not _is_in(printed, name, text):
                _print_new(console, name, text, shown)
            printed.update(text.splitlines())
        if not follow or has_ended:
            break
        time.sleep(_POLL_SECONDS)
        has_ended = _has_ended(settings, folder)  # once more: its last lines
    if not any(shown.values()):
        what = " ".join(filter(None, (image, scenario)))
        console.print(f"Build {record.build} has no logs{f' of {what}' if what else ''} here.", markup=False)


def _check_scenario(folder: BuildFolder, record: BuildRecord, image: str, scenario: str) -> None:
    """Refuse a scenario that an image of a build does not have.

    Raises:
        BadInput: It does not.
    """
    plan, tested = folder.read_plan(), folder.read_tested(image)
    planned = plan.by_name.get(image) if plan else None
    known = {job.scenario for job in folder.jobs() if job.image == image}
    known |= {name.partition(".")[0] for name, _ in folder.read_logs(image)}
    known |= {each.name for each in planned.scenarios} if planned else set()
    known |= {each.scenario for each in tested.scenarios} if tested else set()
    if scenario in known:
        return
    close = difflib.get_close_matches(scenario, known, n=1)
    every = f"It has {', '.join(sorted(known))}." if known else "It has none."
    raise BadInput(
        f"{image} has no scenario {scenario!r} in build {record.build}",
        where="SCENARIO",
        hint=f"Did you mean {close[0]}?" if close else every,
    )


def _is_in(printed: Collection[str], name: str, text: str) -> bool:
    """Whether everything that a node has printed was printed with its name in front."""
    node = name.rpartition(".")[2]
    return all(f"{node}: {line}" in printed for line in text.splitlines())


def _print_new(console: Console, name: str, text: str, shown: dict[str, int]) -> None:
    """Print what a log has more than before, below its name if another was printed last."""
    new = text[shown.get(name, 0) :]
    if not new:
        return
    if next(reversed(shown), "") != name:
        console.print(f"==> {name} <==", style="bold", markup=False, soft_wrap=True)
    shown.pop(name, None)
    shown[name] = len(text)
    console.print(printable(new.removesuffix("\n")), markup=False, soft_wrap=True)


def _logs(
    settings: Settings, folder: BuildFolder, record: BuildRecord, image: str | None, scenario: str | None
) -> Iterator[tuple[str, str]]:
    """Every log by name: those of steps, which this machine's Dagster instance has, and those of tests."""
    if scenario is None:
        yield from _step_logs(settings, record, image)
    for each in [image] if image else record.images:
        for name, text in folder.read_logs(each):
            if scenario is None or name.startswith(f"{scenario}."):
                yield f"{each} {name.removesuffix('.log')}", text


def _step_logs(settings: Settings, record: BuildRecord, image: str | None) -> Iterator[tuple[str, str]]:
    home = existing_home(settings)
    if home is None:
        return
    from aml_images_dagster.cli.instance import step_logs

    yield from step_logs(home, record.run_id, image)


def _has_ended(settings: Settings, folder: BuildFolder) -> bool:
    """Whether nothing more is printed.

    A build of a part of the chain stays `partial`, and one that was killed `running` until it is cleaned up: only its
    run knows.
    """
    record = folder.read_build()
    if record is None or record.status not in ("running", "partial"):
        return True
    home = existing_home(settings)
    if home is None:
        return False
    from aml_images_dagster.cli.instance import is_over

    return is_over(home, record.run_id, settings.host_patience_seconds)
