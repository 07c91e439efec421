"""Checks: small named questions whether something that a build needs is there, each with what would mend it.

Parts bring the checks of what they stand on. A build asks them before it starts; `aml-images doctor` shows all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Check:
    """A question that can be asked at any time and changes nothing.

    Attributes:
        name: What is looked at, e.g. `staging registry`.
        ask: Gives what was found, in a few words, or raises a `FactoryError` that says what is wrong.
        before_build: Whether every build asks it before it starts; the others are shown by `aml-images doctor` only.
    """

    name: str
    ask: Callable[[], str]
    before_build: bool = False


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found.

    Attributes:
        name: Of the check.
        ok: Whether all is well.
        found: What was found, or what is wrong.
        mend: What the user can do about it; empty when all is well.
    """

    name: str
    ok: bool
    found: str
    mend: str = ""


def perform(check: Check) -> CheckResult:
    """Ask, and turn a failure into a result."""
    try:
        return CheckResult(check.name, ok=True, found=check.ask())
    except FactoryError as error:
        place = f"{error.where}: " if error.where else ""
        return CheckResult(check.name, ok=False, found=f"{place}{error.what}", mend=error.mend)
