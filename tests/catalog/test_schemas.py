"""The published JSON schemas are those of the models."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
GENERATED = runpy.run_path(str(SCHEMAS / "generate.py"))["generate"]()


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_schemas_are_current(name):
    assert (SCHEMAS / name).read_text() == GENERATED[name], "run docs/schemas/generate.py"


def test_no_schema_is_left_over():
    assert {path.name for path in SCHEMAS.glob("*.schema.json")} == set(GENERATED)
