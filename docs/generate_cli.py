"""Write docs/cli.md from the commands themselves.

Run `python docs/generate_cli.py` after a change of a command, an option or their help texts.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import click

from aml_images_dagster.cli.main import SECTIONS, cli
from aml_images_dagster.cli.options import common_options

PAGE = Path(__file__).with_name("cli.md")

HEADER = """\
# Command line

Every command of `aml-images` with its arguments and options. Written by [generate_cli.py](generate_cli.py) from the
commands; `--help` shows the same text.

**Exit codes.** 0: success. 1: the build, the release or a check failed. 2: bad usage or bad input; nothing was started.
130: interrupted (Ctrl-C); a build is canceled and cleaned up. A mistake is one message: what is wrong, where, and a
hint. With `--json` it is a document as well, on standard output: `{"error": {"what": …, "where": …, "hint": …}}`.
"""

COMPLETION = """\
**Completion.** With a line in its configuration a shell completes commands, options, images, builds and release tags:

| shell | file | line |
|---|---|---|
| bash 4.4 or later | `~/.bashrc` | `eval "$(_AML_IMAGES_COMPLETE=bash_source aml-images)"` |
| zsh | `~/.zshrc` | `eval "$(_AML_IMAGES_COMPLETE=zsh_source aml-images)"` |
| fish | `~/.config/fish/completions/aml-images.fish` | `_AML_IMAGES_COMPLETE=fish_source aml-images \\| source` |
"""


@common_options
def _every_command(**_: Any) -> None: ...


def commands() -> dict[str, click.Command]:
    """Every command by its name, in the order of `aml-images --help`."""
    context = click.Context(cli)
    return {name: command for name in cli.list_commands(context) if (command := cli.get_command(context, name))}


def page() -> str:
    """The text of the page."""
    found = commands()
    shared = click.Command("every command", params=getattr(_every_command, "__click_params__", []))
    overview = [
        row
        for heading, commands in SECTIONS.items()
        for row in (
            f"| **{heading}** | |",
            *(f"| [`{name}`](#{name}) | {_cell(commands[name][1])} |" for name in commands),
        )
    ]
    sections = [_section(name, command, {option.name for option in shared.params}) for name, command in found.items()]
    common = f"## Options of every command\n\n{_options(shared.params[::-1])}"
    return "\n".join([HEADER, COMPLETION, "| command | what it does |", "|---|---|", *overview, "", *sections, common])


def _section(name: str, command: click.Command, shared: set[str | None]) -> str:
    context = click.Context(command, info_name=f"aml-images {name}")
    usage = f"    aml-images {name} {' '.join(command.collect_usage_pieces(context))}"
    own = [parameter for parameter in command.params if parameter.name not in shared]
    return "\n\n".join([f"## {name}", *_paragraphs(command), usage, *filter(None, [_options(own).rstrip()])]) + "\n"


def _paragraphs(command: click.Command) -> list[str]:
    return [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]


def _options(parameters: list[click.Parameter]) -> str:
    context = click.Context(click.Command("any"))
    options = [parameter for parameter in parameters if isinstance(parameter, click.Option)]
    rows = [row for option in options if (row := option.get_help_record(context))]
    if not rows:
        return ""
    table = [f"| `{_cell(written)}` | {_cell(text)} |" for written, text in rows]
    return "\n".join(["| option | meaning |", "|---|---|", *table]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
