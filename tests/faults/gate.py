"""A registry front that can hold a push back until something else has happened."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from tests.emulators.faulty_registry import Answer, FaultyRegistry

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 120


class GatedRegistry(FaultyRegistry):
    """While the gate is closed, manifests whose path matches `gated` wait before it.

    Attributes:
        gate: Set: open.
        gated: Regular expression.
        waiting: Set once somebody waits.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.gate = threading.Event()
        self.gate.set()
        self.gated = ""
        self.waiting = threading.Event()

    def close_gate(self, path: str) -> None:
        self.gated = path
        self.waiting.clear()
        self.gate.clear()

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        if method == "PUT" and "/manifests/" in path and re.search(self.gated, path) and not self.gate.is_set():
            self.waiting.set()
            self.gate.wait(_SECONDS)
        return super().answer(method, path, headers)
