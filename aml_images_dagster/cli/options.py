"""The options that every command has, and the settings that come of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from aml_images_dagster.settings import Settings, load_settings, unknown_variables
from aml_images_dagster.text import printable_line

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = [
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text."),
    click.option(
        "--repo",
        type=click.Path(path_type=Path, file_okay=False),
        help="Root of the repository of image folders. Default: the repository around the current folder.",
    ),
    click.option(
        "--docker-files-path", metavar="FOLDERS", help="Folders that contain the image folders, separated by ';'."
    ),
    click.option(
        "--published-as",
        multiple=True,
        metavar="PATTERN",
        help="Name of an image in FROM lines of others, with {name} and {family}. Repeatable.",
    ),
]


def common_options(command: F) -> F:
    """Add the options that every command has; it takes `as_json` and `settings`."""

    def with_settings(
        repo: Path | None, docker_files_path: str | None, published_as: tuple[str, ...], **rest: Any
    ) -> Any:
        _printed.clear()  # of another command in this process, or in the one that this is a fork of
        settings = load_settings(repo=repo, docker_files_path=docker_files_path, published_as=published_as or None)
        if click.get_current_context().info_name != "doctor":  # of which it is a finding
            _name_unknown_variables(settings.repo)
        return command(settings=settings, **rest)

    with_settings.__doc__ = command.__doc__
    with_settings.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    decorated: Any = with_settings
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def _name_unknown_variables(repo: Path) -> None:
    for name, meant in unknown_variables(repo).items():
        like = f"; did you mean {meant}?" if meant else ""
        click.secho(f"{printable_line(name)} is ignored: there is no such setting{like}", fg="yellow", err=True)


def print_json(document: Any) -> None:
    """Print the one document of a command for programs."""
    _printed.append(True)
    click.echo(json.dumps(document, indent=2, default=str))


def has_printed_json() -> bool:
    """Whether the command has printed its document."""
    return bool(_printed)


_printed: list[bool] = []

__all__ = ["Settings", "common_options", "has_printed_json", "print_json"]
