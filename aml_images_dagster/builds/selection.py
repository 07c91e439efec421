"""The images of a build, each with its reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.parents import finder_elsewhere
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.bases import FindParent
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings

Selection = dict[str, tuple[str, ...]]
"""Images by `<family>/<name>`, each with its reasons."""


def with_needed_parents(
    chosen: Mapping[str, tuple[str, ...]], source: Source, backends: Backends, settings: Settings
) -> Selection:
    """Add every image of our own that a chosen one is FROM and that is not available otherwise.

    Raises:
        BadInput: Images that are needed are built FROM each other.
    """
    selection: Selection = dict(chosen)
    catalog = source.catalog
    elsewhere = finder_elsewhere(source, backends, settings)
    for name in reversed(catalog.order(catalog.with_ancestors(chosen))):
        for parent in catalog.images[name].parents if name in selection else ():
            if parent not in selection and (why := _unavailable(parent, catalog.images[name], elsewhere, backends)):
                selection[parent] = (f"{name} is built FROM it, and it {why}",)
    return selection


def left_out(
    images: Collection[str], named: Collection[str], source: Source, backends: Backends, today: date
) -> dict[str, str]:
    """The images that a build of many leaves out, each with the reason in a sentence.

    Those are images past their end of life, and Windows images where nothing builds them, unless they are named. Where
    no other image would remain, none is left out: who asks for nothing else means them.
    """
    found: dict[str, str] = {}
    wanted = {image for image in images if image in source.catalog.images}
    for name in sorted(wanted.difference(named)):
        image = source.catalog.images[name]
        if image.is_past_end_of_life(today):
            found[name] = f"{name} is left out: it is past its end of life ({image.settings.eol}); build it by its name"
        elif image.os == "windows" and backends.windows_builder is None:
            found[name] = f"{name} is left out: nothing is configured that builds Windows images (windows_docker_host)"
    return {} if found.keys() == wanted else found


def _unavailable(parent: str, image: Image, find: FindParent, backends: Backends) -> str:
    """Why an image cannot be built on what there is of a parent; empty if it can."""
    try:
        found = find(parent)
    except BadInput:  # a base of it can't be resolved; the plan says so when it is part of the build
        found = None
    if found is None:
        return "was neither released nor has it passed"
    if len(image.platforms) > 1 and not {*image.platforms} <= {*backends.resolver.platforms(str(found))}:
        return "was not built for all its platforms"
    return ""
