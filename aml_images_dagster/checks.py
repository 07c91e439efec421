"""Checks: whether a prerequisite of a build is met, each with a name and a hint.

Each backend has checks of its services. A build runs them before it starts; `aml-images doctor` shows all.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Purpose = Literal["build", "release"]
"""What has prerequisites."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check that can run at any time and changes nothing.

    Attributes:
        name: What is checked, e.g. `staging registry`.
        ask: Gives what was found, in a few words, or raises a `FactoryError` that says what is wrong.
        before_build: Whether every build asks it before it starts; the others are shown by `aml-images doctor` only.
        images: The images that cannot be built without it, while others can; empty if nothing can.
        only_for: What alone needs it; None if both do.
    """

    name: str
    ask: Callable[[], str]
    before_build: bool = False
    images: tuple[str, ...] = ()
    only_for: Purpose | None = None

    def is_needed_for(self, purpose: Purpose | None) -> bool:
        """Whether a build or a release needs it; None: whether any of them does."""
        return None in (purpose, self.only_for) or purpose == self.only_for


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found.

    Attributes:
        name: Of the check.
        ok: Whether all is well.
        found: What was found, or what is wrong.
        hint: What the user can do about it; empty when all is well.
        images: See `Check`.
    """

    name: str
    ok: bool
    found: str
    hint: str = ""
    images: tuple[str, ...] = ()


def perform(check: Check) -> CheckResult:
    """Ask, and turn a failure into a result."""
    try:
        return CheckResult(check.name, ok=True, found=check.ask(), images=check.images)
    except FactoryError as error:
        place = f"{error.where}: " if error.where and error.where not in check.name else ""
        return CheckResult(check.name, ok=False, found=f"{place}{error.what}", hint=error.hint, images=check.images)


def perform_all(checks: Sequence[Check], seconds: float) -> list[CheckResult]:
    """Run all checks at once; results are in the given order, and a check without a result in time fails.

    Args:
        checks: What to ask.
        seconds: How long all of them may take together.
    """
    answers = [_ask_in_background(check) for check in checks]
    wait(answers, timeout=seconds)
    return [
        answer.result() if answer.done() else _silent(check, seconds)
        for check, answer in zip(checks, answers, strict=True)
    ]


def _silent(check: Check, seconds: float) -> CheckResult:
    hint = "Can this machine reach it (address, firewall, proxy)?"
    return CheckResult(check.name, ok=False, found=f"no answer within {seconds:g} s", hint=hint, images=check.images)


def _ask_in_background(check: Check) -> Future[CheckResult]:
    answer: Future[CheckResult] = Future()

    def ask() -> None:
        try:
            answer.set_result(perform(check))
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is read
            answer.set_exception(error)

    # Pools join their threads at the end of the process, and one that hangs would keep it from ending.
    threading.Thread(target=ask, name=check.name, daemon=True).start()
    return answer
