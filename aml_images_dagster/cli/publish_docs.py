"""`aml-images publish-docs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aml_images_dagster.builds.source import load_source
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.options import common_options
from aml_images_dagster.cli.publish_source import show
from aml_images_dagster.open_source.syndication import publish_docs
from aml_images_dagster.profiles import backends_for

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


@click.command("publish-docs")
@click.argument("images", nargs=-1, metavar="[IMAGE...]", type=IMAGE)
@click.option("--dry-run", is_flag=True, help="Show diff and findings of the leak check. Push nothing.")
@common_options
def command(settings: Settings, as_json: bool, images: tuple[str, ...], dry_run: bool) -> None:
    """Propose what the registry and Docker Hub show of released images: a README.md and a tags.yml for each.

    Without IMAGE: all images that were released.
    """
    source = load_source(settings, settings.source_commit)
    chosen = [source.catalog.get(image).id for image in images] or None
    backends = backends_for(settings)
    show(lambda: publish_docs(source, backends, settings, images=chosen, dry_run=dry_run), as_json)
