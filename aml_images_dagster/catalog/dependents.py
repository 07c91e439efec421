"""What has to be built along with images: everything that is FROM them, with the reasons of each."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from aml_images_dagster.catalog.catalog import Catalog

Reasons = dict[str, tuple[str, ...]]
"""Images by id, each with why it is built."""


def with_descendants(
    found: Mapping[str, Sequence[str]], catalog: Catalog, today: date
) -> tuple[Reasons, frozenset[str]]:
    """Add what is built FROM the images found.

    Args:
        found: Images by id, with their reasons.
        catalog: The images.
        today: The day by which ends of life are judged.

    Returns:
        The images with their descendants, each with its reasons; and descendants that are past their end of life, which
        are not built and end a chain.
    """
    parents = catalog.parents
    children = defaultdict(list)
    for image, its_parents in parents.items():
        for parent in its_parents:
            children[parent].append(image)
    selected, ended = set(found), set()
    waiting = list(found)
    while waiting:
        for child in children[waiting.pop()]:
            if child in selected:
                continue
            if catalog.images[child].is_past_end_of_life(today):
                ended.add(child)
            else:
                selected.add(child)
                waiting.append(child)
    reasons = {
        image: (*found.get(image, ()), *(f"FROM {parent}" for parent in parents[image] if parent in selected))
        for image in sorted(selected)
    }
    return reasons, frozenset(ended)
