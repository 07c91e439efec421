"""The images of a build, each with its reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.parents import finder_elsewhere
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.bases import FindParent
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.settings import Settings

Selection = dict[str, tuple[str, ...]]
"""Images by `<family>/<name>`, each with its reasons."""


def with_needed_parents(
    chosen: Mapping[str, tuple[str, ...]], source: Source, backends: Backends, settings: Settings
) -> Selection:
    """Add every image of our own that a chosen one is FROM and that is not available otherwise.

    Raises:
        BadInput: Images are built FROM each other.
    """
    selection: Selection = dict(chosen)
    catalog = source.catalog
    elsewhere = finder_elsewhere(source, backends, settings)
    for name in reversed(catalog.order(catalog.images)):
        for parent in catalog.images[name].parents if name in selection else ():
            if parent not in selection and not _is_available(parent, elsewhere):
                selection[parent] = (f"{name} is built FROM it, and it was neither released nor has it passed",)
    return selection


def _is_available(name: str, find: FindParent) -> bool:
    try:
        return find(name) is not None
    except BadInput:  # a base of it can't be resolved; the plan says so when it is part of the build
        return False
