"""`aml-images rollback IMAGE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aml_images_dagster.cli.arguments import IMAGE, RELEASE_TAG
from aml_images_dagster.cli.changes import show_done, show_planned
from aml_images_dagster.cli.console import line_by_line, open_console
from aml_images_dagster.cli.options import common_options
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.release.actor import actor, stated
from aml_images_dagster.release.rollback import plan_rollback, released_image, roll_back

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


@click.command("rollback")
@click.argument("image", metavar="IMAGE", type=IMAGE)
@click.option(
    "--to",
    metavar="TAG",
    type=RELEASE_TAG,
    default="",
    help="Release tag to go back to. Default: the release before the current one.",
)
@click.option("--reason", default="", help="Why; kept in the release record.")
@click.option("--dry-run", is_flag=True, help="Show what would change. Change nothing.")
@common_options
def command(settings: Settings, as_json: bool, image: str, to: str, reason: str, dry_run: bool) -> None:
    """Point :latest of an image at an earlier release. Allowed outside of the release window."""
    reason = stated(reason, "--reason")
    backends = backends_for(settings)
    image = released_image(image, backends)
    if dry_run:
        version, change = plan_rollback(image, to, backends)
        show_planned(change, version.tag, f":latest would be {version.tag}", as_json)
        return
    report = line_by_line(open_console(stderr=as_json))
    record = roll_back(image, to, reason, backends, settings, actor(settings), report)
    said = f":latest of {image} is {record.release_tag} again" if record else ""
    show_done(record, image, said, f":latest of {image} already is that release", as_json)
