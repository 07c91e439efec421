"""`aml-images withdraw IMAGE TAG`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aml_images_dagster.cli.arguments import IMAGE, RELEASE_TAG
from aml_images_dagster.cli.changes import show_done, show_planned
from aml_images_dagster.cli.console import line_by_line, open_console
from aml_images_dagster.cli.options import common_options
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.release.actor import actor, stated
from aml_images_dagster.release.rollback import released_image
from aml_images_dagster.release.withdrawal import plan_withdrawal, withdraw

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


@click.command("withdraw")
@click.argument("image", metavar="IMAGE", type=IMAGE)
@click.argument("tag", type=RELEASE_TAG)
@click.option("--reason", required=True, help="Why; kept in the release record.")
@click.option("--dry-run", is_flag=True, help="Show what would change. Change nothing.")
@common_options
def command(settings: Settings, as_json: bool, image: str, tag: str, reason: str, dry_run: bool) -> None:
    """Remove release TAG of an image from production permanently. :latest must not be that release."""
    reason = stated(reason, "--reason", required=True)
    backends = backends_for(settings)
    image = released_image(image, backends)
    if dry_run:
        _, change = plan_withdrawal(image, tag, backends)
        show_planned(change, tag, f"{image} {tag} would be removed", as_json)
        return
    report = line_by_line(open_console(stderr=as_json))
    record = withdraw(image, tag, reason, backends, settings, actor(settings), report)
    said = f"{image} {tag} is withdrawn; the image stays available by its digest"
    show_done(record, image, said, f"{image} {tag} is already withdrawn", as_json)
