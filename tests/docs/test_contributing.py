"""The recipes of CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aml_images_dagster.defs.images import checks

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")


def test_the_check_on_staged_images_works_as_written() -> None:
    (recipe,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "StagedCheck(" in code)
    names: dict[str, Any] = {**vars(checks), "BuildSession": object, "StagedImage": object}
    exec(recipe.replace("StagedCheck(", "CHECK = StagedCheck("), names)
    check: Any = names["CHECK"]
    session: Any = None
    assert [check.verdict(session, SimpleNamespace(layers=layers)).passed for layers in (60, 61)] == [True, False]
