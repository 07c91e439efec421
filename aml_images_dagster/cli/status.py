"""`aml-images status BUILD`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.housekeeping.cleanup import read_report
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.naming import BUILD_NUMBER
from aml_images_dagster.builds.records import ENDED, on_platform, sizes_in_words
from aml_images_dagster.cli.arguments import BUILD, build_named
from aml_images_dagster.cli.builds import COLOURS, waits_of
from aml_images_dagster.cli.console import is_narrow, new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.history import BuildRelease
    from aml_images_dagster.builds.records import BuildFailure, BuildRecord, JobRecord, TestedImage
    from aml_images_dagster.settings import Settings


@click.command("status")
@click.argument("build", type=BUILD)
@common_options
def command(settings: Settings, as_json: bool, build: str) -> None:
    """Show BUILD: its images, digests, reasons and tests, and why it failed. BUILD may be `latest`.

    Wherever a command takes BUILD, the start of its number is enough if no other build begins so.
    """
    folder, record = find_build(settings, build_named(settings, build, latest=True))
    waits = waits_of(settings, [record]).get(record.build, "")
    release = History(Ledger(backends_for(settings).artifacts).records()).of_build(record.build)
    if as_json:
        print_json({**document(folder, record), "waiting": waits, "release": _release_document(release)})
        return
    console = open_console()
    console.print(
        f"build [bold]{record.build}[/] [{COLOURS[record.status]}]{record.status}{in_step(record.failure)}[/]"
    )
    if waits:
        console.print(waits, style="yellow")
    if release:
        console.print(_release_in_words(release))
    if _is_kept(folder, record):
        console.print(
            f"[bold yellow]kept for inspection until {record.keep_until:%Y-%m-%d %H:%M} UTC[/], "
            f"or until `aml-images cleanup {record.build}`"
        )
    about = (
        f"started by {escape(record.started_by)}" if record.started_by else "",
        f"commit {record.commit or 'none'}",
        f"release tag {record.release_tag}",
        f"artifacts {escape(str(folder.root))}",
    )
    console.print(("\n" if is_narrow(console) else ", ").join(filter(None, about)), style="dim")
    if record.failure:
        explain_failure(console, record.failure)
    console.print(images_table(folder, record))


def _release_document(release: BuildRelease | None) -> dict[str, Any] | None:
    if release is None:
        return None
    record = release.record
    about = {"state": release.state, "when": record.when.isoformat(), "who": record.who}
    return about | {"record": record.number, "withdrawn": list(release.withdrawn)}


def _release_in_words(release: BuildRelease) -> str:
    record, who = release.record, escape(release.record.who)
    when = f"{record.when:%Y-%m-%d %H:%M} UTC"
    if not record.done:
        again = f"`aml-images release {record.build}` continues it"
        return f"[bold yellow]its release is not completed[/]: begun by {who}, {when}; {again}"
    withdrawn = f"; [yellow]withdrawn: {escape(', '.join(release.withdrawn))}[/]" if release.withdrawn else ""
    return f"[green]released[/] as {record.release_tag} by {who}, {when}{withdrawn}"


def _is_kept(folder: BuildFolder, record: BuildRecord) -> bool:
    """Whether what a failed build has made is still there, for inspection."""
    report = read_report(folder) if record.keep_until and record.status in ENDED else None
    return report is not None and any(row.outcome == "kept" for row in report.rows)


def explain_failure(console: Console, failure: BuildFailure) -> None:
    """Why a build failed, for people."""
    if failure.log:
        console.print(printable(failure.log), markup=False, style="dim", soft_wrap=True)
    console.print(printable(failure.message), markup=False)


def in_step(failure: BuildFailure | None) -> str:
    """Where a build failed, to follow the word `failed`; empty when it was in no step."""
    return f" in {escape(failure.step)}" if failure and failure.step else ""


def find_build(settings: Settings, build: str) -> tuple[BuildFolder, BuildRecord]:
    """A build by its number.

    Raises:
        BadInput: There is none.
    """
    folder = backends_for(settings).artifacts.build(build)
    record = folder.read_build() if BUILD_NUMBER.fullmatch(build) else None
    if record is None:
        raise BadInput(
            f"there is no build {build!r}", where=settings.artifacts_uri, hint="`aml-images builds` lists all."
        )
    return folder, record


def document(folder: BuildFolder, record: BuildRecord) -> dict[str, Any]:
    """A build for programs."""
    images = []
    for image in record.images:
        staged, tested = folder.read_staged(image), folder.read_tested(image)
        images.append(
            {
                "image": image,
                "staged": staged.model_dump(mode="json", exclude={"content_key", "dockerfile"}) if staged else None,
                "content_key": staged.content_key.digest if staged else None,
                "reused": staged.reused(record.build) if staged else None,
                "tests": [scenario.model_dump(mode="json") for scenario in tested.scenarios] if tested else None,
                "untested": list(tested.untested) if tested else None,
            }
        )
    return {
        **record.model_dump(mode="json", exclude={"images"}),
        "artifacts": folder.root.as_uri(),
        "is_kept": _is_kept(folder, record),
        "images": images,
        "jobs": [job.model_dump(mode="json") for job in folder.jobs()],
    }


def images_table(folder: BuildFolder, record: BuildRecord, images: Sequence[str] | None = None) -> Table:
    """The images of a build for people; default: all of them."""
    table = new_table("image", "digest", "size", "staged", "tests", "why")
    jobs, plan = folder.jobs(), folder.read_plan()
    planned = plan.by_name if plan else {}
    for image in record.images if images is None else images:
        staged, tested = folder.read_staged(image), folder.read_tested(image)
        if staged is None:
            reasons = planned[image].reasons if image in planned else ()
            table.add_row(escape(image), "-", "-", _not_staged(image, record), "-", escape("\n".join(reasons)))
            continue
        if staged.reused(record.build):
            how = f"reused from {staged.built_in}"
        else:
            how = "\n".join((f"built in {staged.seconds:.1f} s", *staged.because))
        # What is staged may be refused all the same: it has other components than its notices, say.
        failed = record.failure is not None and record.failure.is_of(image, ["staged"])
        if tested:
            scenarios = [
                f"{on_platform(s.scenario, s.platform)} {s.status} {s.seconds:.1f} s" for s in tested.scenarios
            ]
            scenarios += [f"not tested on {platform}" for platform in tested.untested]
        else:
            tests = planned[image].tests if image in planned else {}
            before = [f"{name} passed before" for name, todo in tests.items() if todo == "passed"]
            scenarios = before + _jobs_of(image, jobs) or ["-"]
        table.add_row(
            escape(image),
            staged.digest[:19],
            sizes_in_words(staged).replace(", ", "\n"),
            "[red]failed[/], " * failed + escape(how),
            escape("\n".join(scenarios)) or "[yellow]not tested[/]",
            escape("\n".join(staged.reasons)),
        )
    return table


def unchanged_images(folder: BuildFolder, record: BuildRecord) -> dict[str, TestedImage]:
    """Images that a build has neither built nor tested. Its plan does not know of those that went meanwhile."""
    unchanged = {}
    for image in record.images:
        staged, tested = folder.read_staged(image), folder.read_tested(image)
        if staged is None or tested is None or not staged.reused(folder.build):
            continue
        if all(scenario.tested_in != folder.build for scenario in tested.scenarios):
            unchanged[image] = tested
    return unchanged


def _not_staged(image: str, record: BuildRecord) -> str:
    """What became of an image of which nothing is staged."""
    if record.failure and record.failure.is_of(image):
        return "[red]failed[/]"
    return "not built" if record.status in ENDED else "-"


def _jobs_of(image: str, jobs: Sequence[JobRecord]) -> list[str]:
    """How far the scenarios of an image came that has not passed: the last job of each."""
    last = {on_platform(job.scenario, job.platform): job for job in jobs if job.image == image}
    return [f"{name} {job.status}{_duration(job)}" for name, job in last.items()]


def _duration(job: JobRecord) -> str:
    return f" {(job.finished - job.submitted).total_seconds():.1f} s" if job.finished else ""
