"""`aml-images publish-source`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.source import load_source
from aml_images_dagster.catalog import git
from aml_images_dagster.cli.arguments import IMAGE, STATED
from aml_images_dagster.cli.console import open_console, print_highlighted
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.open_source.proposal import LeaksFound
from aml_images_dagster.open_source.publication import publish_source
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.text import printable_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.open_source.proposal import Proposal
    from aml_images_dagster.settings import Settings


@click.command("publish-source")
@click.argument("images", nargs=-1, metavar="[IMAGE...]", type=IMAGE)
@click.option(
    "--head",
    type=STATED,
    metavar="REV",
    help="Publish this commit. Default: the setting source_commit, else the working tree.",
)
@click.option("--dry-run", is_flag=True, help="Show diff and findings of the leak check. Build and push nothing.")
@common_options
def command(settings: Settings, as_json: bool, images: tuple[str, ...], head: str | None, dry_run: bool) -> None:
    """Propose the public part of image folders to the public repository: a branch with one commit, a pull request.

    Without IMAGE: all images that are not past their end of life. Pushes only if the leak check finds nothing and every
    changed public Dockerfile builds on its own.
    """
    head = head or settings.source_commit
    source = load_source(settings, git.resolve(settings.repo, head) if head else "")
    chosen = [source.catalog.get(image).id for image in images] or None
    console = open_console(stderr=True)

    def log(line: str) -> None:
        console.print(line, markup=False, style="dim")

    backends = backends_for(settings)
    show(lambda: publish_source(source, backends, settings, log, images=chosen, dry_run=dry_run), as_json)


def show(publish: Callable[[], Proposal], as_json: bool) -> None:
    """Publish and print the result; a dry run shows the diff. Programs get the findings of the leak check, too."""
    try:
        proposal = publish()
    except LeaksFound as found:
        if as_json:
            print_json({"leaks": [asdict(leak) | {"mend": leak.hint} for leak in found.leaks]})
        raise
    if as_json:
        print_json(
            {
                "outcome": proposal.outcome,
                "repository": git.without_credentials(proposal.repository),
                "branch": proposal.branch,
                "commit": proposal.commit,
                "pull_request": proposal.pull_request,
                "changes": [{"path": printable_line(c.path), "status": c.status} for c in proposal.changes],
                "diff": proposal.diff,
            }
        )
        return
    console = open_console()
    place = f"branch {escape(proposal.branch)} of {escape(proposal.repository)}"
    match proposal.outcome:
        case "unchanged":
            console.print(f"Nothing to publish: {escape(proposal.repository)} is up to date.")
        case "dry run":
            print_highlighted(console, proposal.diff, "diff")
            console.print(
                f"Dry run: {len(proposal.changes)} changed files, no leak found. Nothing was built or pushed."
            )
        case "proposed before":
            console.print(f"Already proposed: {place} is at {proposal.commit[:12]}.")
        case "proposed":
            console.print(f"Proposed: {len(proposal.changes)} changed files, {place} is at {proposal.commit[:12]}.")
    if proposal.pull_request:
        console.print(f"Pull request: {proposal.pull_request}", markup=False)
    elif proposal.commit:
        console.print("No pull request was opened: set a token and a host, see docs/open-source.md.")
