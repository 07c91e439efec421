"""`aml-images new`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.image import TESTS_FILE
from aml_images_dagster.catalog.new_image import new_image
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings


@click.command("new")
@click.argument("image", metavar="FAMILY/IMAGE")
@click.option(
    "--from", "parent", required=True, metavar="PARENT", type=IMAGE, help="Image of this repository that it is FROM."
)
@common_options
def command(settings: Settings, as_json: bool, image: str, parent: str) -> None:
    """Write the folder of a new image: complete, valid, and FROM the published name of PARENT."""
    tree = WorkingTree(settings.repo)
    catalog = load_catalog(settings, tree)
    written = new_image(image, _parent(parent, catalog), catalog, tree)
    if as_json:
        print_json({"image": written.name, "path": written.path, "files": written.files})
        return
    console = open_console()
    console.print(f"{written.path}: {', '.join(written.files)}", markup=False)
    if TESTS_FILE not in written.files:
        console.print(f"The parent has no {TESTS_FILE}: the image is not tested until you write one.")
    console.print(
        "Next: write its Dockerfile and notices, and a test of its own: "
        f"a script below {catalog.tests_path}, named in {written.path}/{TESTS_FILE}. "
        f"Then aml-images validate {written.name}",
        markup=False,
        soft_wrap=True,
    )


def _parent(name: str, catalog: Catalog) -> Image:
    """The image that the new one is FROM; an upstream image is none."""
    try:
        return catalog.get(name)
    except BadInput as fault:
        upstream = "For an image FROM an upstream image, copy the most similar folder and change its FROM."
        raise BadInput(fault.what, where=fault.where, hint=f"{fault.hint} {upstream}") from None
