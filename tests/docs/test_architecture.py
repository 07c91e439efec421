"""docs/architecture.md has every package, and its map is the one that import-linter keeps."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aml_images_dagster"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
TABLE = PAGE.partition("\n## The packages\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \|$", TABLE, re.MULTILINE)


def test_every_package_has_a_row() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(package for package, _ in ROWS) == sorted(packages)


def test_no_module_is_named_that_is_gone() -> None:
    named = {f"{package}/{path}" for package, cell in ROWS for path in re.findall(r"`([a-z_/]+\.py)`", cell)}
    beside = set(re.findall(r"`([a-z_]+\.py)`", TABLE.rpartition("Beside them:")[2]))
    assert {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"} == beside
    assert [module for module in sorted(named) if not (PACKAGE / module).is_file()] == []


def test_the_map_shows_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    level = {package.strip(): height for height, layer in enumerate(layers) for package in layer.split("|")}
    drawing = PAGE.partition("```mermaid\n")[2].partition("```")[0]
    arrows = re.findall(r"^ +(\w+)(?:\[.*?\])? -\.?->? ?(\w+)", drawing, re.MULTILINE)
    assert {name for arrow in arrows for name in arrow} == set(level)
    assert [arrow for arrow in arrows if level[arrow[0]] >= level[arrow[1]]] == []
