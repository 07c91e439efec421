"""docs/architecture.md has every package, and its map is the one that import-linter keeps."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aml_images_dagster"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
TABLE = PAGE.partition("\n## The packages\n")[2].partition("\n## ")[0]
DRAWING = PAGE.partition("```mermaid\n")[2].partition("```")[0]
ARROWS = re.findall(r"^ +(\w+)(?:\[.*?\])? --> (\w+)", DRAWING, re.MULTILINE)
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
    assert {name for arrow in ARROWS for name in arrow} == set(level)
    assert [arrow for arrow in ARROWS if level[arrow[0]] >= level[arrow[1]]] == []


def test_the_map_shows_every_import() -> None:
    graph = grimp.build_graph(PACKAGE.name, cache_dir=None)
    for package in sorted(graph.find_children(PACKAGE.name)):
        graph.squash_module(package)
    drawn = {name: {other for its, other in ARROWS if its == name} for arrow in ARROWS for name in arrow}

    def below(name: str) -> set[str]:
        return drawn[name] | {each for other in drawn[name] for each in below(other)}

    for name, arrows in drawn.items():
        imported = graph.find_modules_directly_imported_by(f"{PACKAGE.name}.{name}")
        imports = {module.rpartition(".")[2] for module in imported} - {PACKAGE.name, name}
        assert imports <= below(name), name
        assert {other for other in arrows if any(other in below(another) for another in arrows)} == set(), name
        assert arrows <= imports, name
