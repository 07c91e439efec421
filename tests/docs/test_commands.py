"""Every `aml-images` and `scripts/…` that the pages show exists, with the options that they show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from aml_images_dagster.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "base_images/devREADME.md", *(ROOT / "docs").glob("*.md")]
# A line of a code block that is a command, after a prompt perhaps.
COMMAND = re.compile(r"^(?: {4}|\$ |)(?:\$ )?(?:\.venv/bin/)?(aml-images(?: .*)?)$")
CODE_BLOCK = re.compile(r"^```(?:console|sh|bash|)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SCRIPT = re.compile(r"\bscripts/[a-z][a-z._-]*|\.ci/[a-z]+")


def commands() -> list[str]:
    found = set()
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = CODE_BLOCK.findall(text)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += [line for line in text.splitlines() if line.startswith("    aml-images")]
        # In tables of commands, two spaces stand before the explanation.
        found |= {match[1].split("   ")[0].strip() for line in lines if (match := COMMAND.match(line))}
    return sorted(found)


@pytest.mark.parametrize("line", commands())
def test_commands_exist(line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    names = [word for word in words if not word.startswith("-")]
    if not names:
        return
    context = click.Context(cli)
    command = cli.get_command(context, names[0])
    assert command is not None, f"there is no command {names[0]}"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    shown = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert shown <= known


def test_commands_are_found() -> None:
    assert {"aml-images list", "aml-images graph"} <= set(commands())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_exist(page: Path) -> None:
    named = {name.rstrip(".") for name in SCRIPT.findall(page.read_text("utf-8"))}
    places = (ROOT, ROOT / "base_images/tests")
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []
