"""Numbers of things."""

from __future__ import annotations

from aml_images_dagster.plural import counted


def test_one_thing_and_others() -> None:
    assert [counted(number, "error") for number in (0, 1, 2)] == ["0 errors", "1 error", "2 errors"]
