"""A check says what it found, or what is wrong and what fixes it."""

from __future__ import annotations

import pytest

from aml_images_dagster.checks import Check, CheckResult, perform
from aml_images_dagster.errors import Unreachable


def test_what_was_found() -> None:
    assert perform(Check("engine", lambda: "20.10, linux")) == CheckResult("engine", ok=True, found="20.10, linux")


def test_what_is_wrong() -> None:
    def ask() -> str:
        raise Unreachable("it does not answer", where="127.0.0.1:1", hint="Start it.")

    assert perform(Check("engine", ask)) == CheckResult(
        "engine", ok=False, found="127.0.0.1:1: it does not answer", hint="Start it."
    )


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        perform(Check("engine", lambda: str(1 / 0)))
