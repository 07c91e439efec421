"""Case C11: lists of ACR, which the SDK reads; what it makes of odd pages, without a service."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import count, cycle
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry import acr
from aml_images_dagster.registry.acr import AcrRegistry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def registry(names: Iterable[Any], monkeypatch: pytest.MonkeyPatch) -> AcrRegistry:
    """A registry whose SDK gives these names, or raises the exception that is one of them."""

    def given() -> Iterator[Any]:
        for name in names:
            if isinstance(name, Exception):
                raise name
            yield name

    client = SimpleNamespace(
        list_repository_names=lambda **_: given(),
        list_tag_properties=lambda *_, **__: (SimpleNamespace(name=name) for name in given()),
    )
    monkeypatch.setattr(AcrRegistry, "_client", lambda _: nullcontext(client))
    return AcrRegistry("contoso.azurecr.io", None, "audience", lambda _: None)  # type: ignore[arg-type]


def test_c11_a_list_of_acr(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry(["a", "b"], monkeypatch).repositories() == ["a", "b"]
    assert registry(["1", "2"], monkeypatch).tags("a") == ["1", "2"]
    assert registry([], monkeypatch).tags("a") == []


@pytest.mark.parametrize(
    "odd", [KeyError("tags"), TypeError("x"), ValueError("x"), AttributeError("x"), None, 5, ["a"]]
)
def test_c11_a_list_of_acr_that_is_none(monkeypatch: pytest.MonkeyPatch, odd: object) -> None:
    found = registry(["a", odd], monkeypatch)
    for ask in (found.repositories, lambda: found.tags("a")):
        with pytest.raises(Unreachable, match="not from a registry"):
            ask()


def test_c11_a_list_of_acr_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acr, "_MOST_NAMES", 1000)
    for endless in (cycle(["a", "b"]), map(str, count())):
        with pytest.raises(Unreachable, match="its pages lead in a circle"):
            registry(endless, monkeypatch).repositories()
