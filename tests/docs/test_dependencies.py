"""docs/dependencies.md has a row for every direct dependency, and for no other."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def named(heading: str) -> set[str]:
    first_cells = re.findall(r"^\| (`.*?) \|", section(heading), re.MULTILINE)
    return {name for cell in first_cells for name in re.findall(r"`([a-z0-9.-]+)`", cell)}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements}


@pytest.mark.parametrize(
    ("heading", "requirements"),
    [
        ("At run time", PROJECT["project"]["dependencies"]),
        ("Optional", [name for extra in PROJECT["project"]["optional-dependencies"].values() for name in extra]),
        ("For development", PROJECT["dependency-groups"]["dev"] + PROJECT["build-system"]["requires"]),
    ],
)
def test_every_dependency_has_its_row(heading: str, requirements: list[str]) -> None:
    assert named(heading) == names(requirements)


def test_everything_that_is_imported_is_a_dependency() -> None:
    imported = set()
    for path in (ROOT / "aml_images_dagster").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    ours = {"aml_images_dagster", *sys.stdlib_module_names}
    packages = {
        module: [re.sub(r"[-_.]+", "-", name).lower() for name in found]
        for module, found in metadata.packages_distributions().items()
    }
    declared = names(PROJECT["project"]["dependencies"])
    undeclared = {module for module in imported - ours if declared.isdisjoint(packages.get(module, ()))}
    assert undeclared == set()


def test_every_debian_package_has_its_row() -> None:
    scripts = "".join(path.read_text("utf-8") for path in (ROOT / "scripts").iterdir() if path.is_file())
    installed = {
        name for line in re.findall(r"apt_install ((?:[a-z][a-z0-9.-]* ?)+)", scripts) for name in line.split()
    }
    assert installed
    assert installed <= named("From Debian")
