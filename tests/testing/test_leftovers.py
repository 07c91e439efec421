"""Case C8: removal is given up when nothing goes any more, without an engine and a clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aml_images_dagster.errors import Unreachable
from aml_images_dagster.testing import leftovers


class SlowEngine:
    """An engine that needs 50 s for each removal, and never removes what is held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, containers: int, held: int = 0) -> None:
        self.now = 0.0
        self.containers = [{"Id": str(number), "Names": [f"/{number}"]} for number in range(containers + held)]
        self.held = {str(number) for number in range(containers, containers + held)}
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.wait)
        monkeypatch.setattr(leftovers, "time", clock)
        nothing: Any = lambda **_: []  # noqa: E731
        self.api = SimpleNamespace(
            containers=lambda **_: list(self.containers),
            remove_container=self.remove,
            networks=nothing,
            volumes=lambda **_: {"Volumes": None},
        )

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def remove(self, container: str, **_: bool) -> None:
        self.wait(50)
        going = next((each["Id"] for each in self.containers if each["Id"] not in self.held), None)
        if container == going:  # one at a time
            self.containers = [each for each in self.containers if each["Id"] != container]


def test_c8_many_that_go_slowly_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SlowEngine(monkeypatch, containers=5)
    assert leftovers.remove(engine, "label", "x") == ["0", "1", "2", "3", "4"]  # type: ignore[arg-type]


def test_c8_one_that_stays_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SlowEngine(monkeypatch, containers=1, held=1)
    with pytest.raises(Unreachable, match="the engine does not remove 1"):
        leftovers.remove(engine, "label", "x")  # type: ignore[arg-type]
