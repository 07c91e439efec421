from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.catalog.graph import descendants, find_cycle, topological_order
from aml_images_dagster.errors import BadInput

STACKS = {
    "images/foundation": [],
    "images/base": ["images/foundation"],
    "images/minimal": ["images/base"],
    "images/scipy": ["images/minimal"],
    "images/r": ["images/minimal"],
    "images/mixed": ["images/r", "images/scipy"],
}


def test_order_is_parents_first_then_by_name() -> None:
    assert topological_order(STACKS) == (
        "images/foundation",
        "images/base",
        "images/minimal",
        "images/r",
        "images/scipy",
        "images/mixed",
    )
    assert topological_order({"c": [], "a": [], "b": []}) == ("a", "b", "c")
    assert topological_order({"a": ["elsewhere"]}) == ("elsewhere", "a")


def test_descendants_with_their_reasons() -> None:
    assert descendants(STACKS, ["images/minimal"]) == {
        "images/r": ("images/minimal",),
        "images/scipy": ("images/minimal",),
        "images/mixed": ("images/r", "images/scipy"),
    }
    assert descendants(STACKS, ["images/base", "images/scipy"]) == {
        "images/minimal": ("images/base",),
        "images/r": ("images/minimal",),
        "images/mixed": ("images/r", "images/scipy"),
    }
    assert descendants(STACKS, ["images/mixed"]) == {}
    assert descendants(STACKS, []) == {}


@pytest.mark.parametrize(
    ("parents", "cycle"),
    [
        ({"a": ["b"], "b": ["a"]}, "a → b → a"),
        ({"b": ["c"], "c": ["a"], "a": ["b"], "d": ["a"]}, "a → b → c → a"),
        ({"a": ["a"]}, "a → a"),
    ],
)
def test_a_cycle_is_named(parents: dict[str, list[str]], cycle: str) -> None:
    with pytest.raises(BadInput) as caught:
        topological_order(parents)
    assert caught.value.what == f"images are built FROM each other: {cycle}"


graphs = st.dictionaries(st.sampled_from("abcdefgh"), st.sets(st.sampled_from("abcdefgh"), max_size=3))


@settings(deadline=None)
@given(graphs)
def test_an_order_or_a_cycle(parents: dict[str, set[str]]) -> None:
    cycle = find_cycle(parents)
    if cycle is None:
        order = topological_order(parents)
        assert set(order) == parents.keys() | {parent for those in parents.values() for parent in those}
        assert all(order.index(parent) < order.index(image) for image, those in parents.items() for parent in those)
        assert topological_order(dict(reversed(parents.items()))) == order
    else:
        assert len(cycle) > 1
        assert cycle[0] == cycle[-1] == min(cycle)
        assert all(parent in parents[image] for image, parent in itertools.pairwise(cycle))


@settings(deadline=None)
@given(graphs, st.sets(st.sampled_from("abcdefgh"), max_size=3))
def test_descendants_are_all_that_reach_a_change(parents: dict[str, set[str]], changed: set[str]) -> None:
    if find_cycle(parents) is not None:
        return

    def reaches(image: str) -> bool:
        return any(parent in changed or reaches(parent) for parent in parents.get(image, ()))

    found = descendants(parents, changed)
    assert found.keys() == {image for image in parents if reaches(image)} - changed
    for image, reasons in found.items():
        assert set(reasons) == {parent for parent in parents[image] if parent in changed or parent in found}
