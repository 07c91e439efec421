"""docs/architecture.md names every module, and its map is the one that import-linter keeps."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aml_images_dagster"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PACKAGES = re.compile(r"^### (?P<title>.+?)$(?P<body>.*?)(?=^##)", re.MULTILINE | re.DOTALL)


def modules_of_the_page() -> set[str]:
    found = set()
    for section in PACKAGES.finditer(PAGE):
        package = section["title"].partition(":")[0]
        folder = f"{package}/" if (PACKAGE / package).is_dir() else ""
        found |= {f"{folder}{path}" for path in re.findall(r"`([a-z_/]+\.py)`", section["body"])}
    return found


def test_every_module_is_named() -> None:
    modules = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    shell = {module for module in modules if module.startswith("release/shell/")}
    assert modules - shell - modules_of_the_page() == set()


def test_no_module_is_named_that_is_gone() -> None:
    assert [module for module in sorted(modules_of_the_page()) if not (PACKAGE / module).is_file()] == []


def test_the_map_shows_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    level = {package.strip(): height for height, layer in enumerate(layers) for package in layer.split("|")}
    drawing = PAGE.partition("```mermaid\n")[2].partition("```")[0]
    arrows = re.findall(r"^ +(\w+)(?:\[.*?\])? -\.?->? ?(\w+)", drawing, re.MULTILINE)
    assert {name for arrow in arrows for name in arrow} == set(level)
    assert [arrow for arrow in arrows if level[arrow[0]] >= level[arrow[1]]] == []
