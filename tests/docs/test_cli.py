"""docs/cli.md says what the commands are."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from aml_images_dagster.cli.main import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"
GENERATOR = runpy.run_path(str(DOCS / "generate_cli.py"))
PAGE = (DOCS / "cli.md").read_text("utf-8")


def test_the_page_is_current() -> None:
    assert GENERATOR["page"]() == PAGE, "run docs/generate_cli.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_section_with_all_its_options(name: str) -> None:
    section = PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    shared = PAGE.partition("\n## Options of every command\n")[2]
    options = [option for parameter in GENERATOR["commands"]()[name].params for option in parameter.opts]
    assert section
    assert [o for o in options if o.startswith("--") and f"`{o}" not in section + shared] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_says_what_it_means(name: str) -> None:
    section = PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert "` |  |" not in section
