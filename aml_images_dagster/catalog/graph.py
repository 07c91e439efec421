"""The order between images, from which image is built FROM which. An image is named `<family>/<name>`."""

from __future__ import annotations

from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


def topological_order(parents: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """All images, parents first, and by name where there is a choice.

    Args:
        parents: Image → images that it is FROM. A parent need not be a key.

    Raises:
        BadInput: Images are built FROM each other; the message names the cycle.
    """
    sorter = TopologicalSorter(parents)
    try:
        sorter.prepare()
    except CycleError:
        cycle = " → ".join(find_cycle(parents) or ())
        raise BadInput(
            f"images are built FROM each other: {cycle}", hint="Change one FROM so that the circle is broken."
        ) from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return tuple(order)


def find_cycle(parents: Mapping[str, Collection[str]]) -> tuple[str, ...] | None:
    """A cycle, each image FROM the next, beginning and ending with its first name; None without one."""
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        # graphlib lists it from parent to child, with the first repeated at the end.
        cycle: list[str] = list(reversed(error.args[1]))[1:]
        start = cycle.index(min(cycle))
        return (*cycle[start:], *cycle[:start], cycle[start])
    return None


def all_cycles(parents: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """Every image that is part of a cycle, with the cycle."""
    found: dict[str, tuple[str, ...]] = {}
    while cycle := find_cycle(parents):
        found.update(dict.fromkeys(cycle, cycle))
        parents = {image: its for image, its in parents.items() if image not in cycle}
    return found


def descendants(parents: Mapping[str, Collection[str]], ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Images that are built, directly or not, FROM some of `ids`, without these themselves.

    Returns:
        Descendant → those of its direct parents that are in `ids` or descend from them, by name: the reason
        for which it is built. Parents come before children.

    Raises:
        BadInput: Some of the descendants are built FROM each other.
    """
    selected = set(ids)
    children = defaultdict(set)
    for image, its in parents.items():
        for parent in its:
            children[parent].add(image)
    below: set[str] = set()
    waiting = list(selected)
    while waiting:
        new = children[waiting.pop()] - below
        below |= new
        waiting.extend(new)
    found: dict[str, tuple[str, ...]] = {}
    for image in topological_order({image: below.intersection(parents[image]) for image in below}):
        reasons = tuple(sorted(set(parents.get(image, ())) & (selected | found.keys())))
        if reasons and image not in selected:
            found[image] = reasons
    return found
