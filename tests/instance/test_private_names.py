"""docs/performance.md lists every private name of Dagster in use: they may change with any version."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text("utf-8").partition("## Private names of Dagster\n")[2]


def is_private(module: str) -> bool:
    return module.startswith(("dagster._", "dagster_shared"))


def in_use() -> set[str]:
    found = set()
    for path in (ROOT / "aml_images_dagster").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and is_private(node.module or ""):
                found |= {alias.name for alias in node.names}
    return found


def test_every_private_name_is_listed_and_no_other() -> None:
    listed = {name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert listed == in_use()
