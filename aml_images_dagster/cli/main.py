"""`aml-images`: the entry point. A command's module is imported when the command is run, so that each starts fast."""

from __future__ import annotations

import atexit
import difflib
import gc
import importlib
import io
import os
import sys
from itertools import pairwise
from typing import NoReturn

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

from aml_images_dagster.errors import INTERRUPTED, FactoryError, refused_by_system

_OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""Python's 700 make it collect hundreds of times while modules are imported, of which nothing becomes garbage: 0.2 of
the 2.5 seconds of a build where nothing has changed."""

SECTIONS = {
    "Image folders": {
        "list": ("list_images", "Show all images."),
        "show": ("show", "Show everything about an image."),
        "graph": ("graph", "Show what is built FROM what."),
        "discover": ("discover", "Show which images a change rebuilds, and why."),
        "validate": ("validate", "Check image folders, and show all findings at once."),
        "new": ("new", "Write the folder of a new image."),
    },
    "Builds": {
        "build": ("build", "Build, test and describe images, all or nothing."),
        "builds": ("builds", "Show all builds, newest first."),
        "status": ("status", "Show one build: its images, digests and tests, and why it failed."),
        "logs": ("logs", "Show what a build has printed: its steps and its tests."),
        "cleanup": ("cleanup", "Remove what a build left: staged images, jobs, release files."),
    },
    "Contents of images": {
        "inventory": ("inventory", "Show what is in an image: packages, licences, its SBOM."),
        "vulnerabilities": ("vulnerabilities", "Show known vulnerabilities of an image, and what policy.yaml says."),
        "notices": ("notices", "Show what an image's notices do not name, and bring them up to date."),
        "diff": ("diff", "Show what changed between two versions of an image."),
        "verify": ("verify", "Verify the signature and the evidence of an image."),
    },
    "Releases": {
        "release": ("release", "Release a build: import it into production, move :latest last."),
        "releases": ("releases", "Show releases, rollbacks and withdrawals, newest first."),
        "rollback": ("rollback", "Point :latest of an image at an earlier release."),
        "withdraw": ("withdraw", "Remove a release tag from production permanently."),
        "import": ("import_images", "Release a drop: import what its import.cfg names into production."),
        "fleet": ("fleet", "Show every image in production, those that need a person first."),
    },
    "Publication": {
        "publish-source": ("publish_source", "Propose the public part of the image folders to the public repository."),
        "publish-docs": ("publish_docs", "Propose README and tags of released images to the documentation repository."),
    },
    "Operation": {
        "doctor": ("doctor", "Check everything a build and a release need."),
        "schedules": ("schedules", "Show the next dates of each schedule, and what it would start."),
        "notify": ("notify", "Show and test the channels of notifications."),
        "metrics": ("metrics", "Serve metrics for Prometheus, or write them into a file."),
    },
}
"""The commands as `--help` lists them: each with its module, and its line there."""

COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
"""Every command: its module, and its line in the list of commands."""


class _LazyGroup(click.Group):
    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # Click would import every command for its help text.
        found = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"aml_images_dagster.cli.{COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)  # noqa: S101 - a module of ours
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # Click would look for likely names among commands that are loaded, and none is.
        close = [] if args[0] in COMMANDS else difflib.get_close_matches(args[0], COMMANDS, n=1)
        if close and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, COMMANDS))
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(longest), text) for name, (_, text) in commands.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aml-images-dagster")
def cli() -> None:
    """Build container images from a git repository, test them as training jobs, release them by digest.

    Exit codes: 0 success, 1 the build, the release or a check failed, 2 bad usage or bad input, 130 interrupted.
    """


def main() -> None:
    """Run the command line and turn a failure that explains itself into a message and an exit code."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    # Before it exits Python looks for garbage in what the system is about to take: a quarter of a short build.
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is shown as escapes.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(cli(standalone_mode=False))
    except FactoryError as error:
        _end(error)
    except click.Abort as abort:
        is_interrupted = isinstance(abort.__context__, KeyboardInterrupt)
        said = "Interrupted" if is_interrupted else "Aborted"
        click.echo(f"{said}.", err=True)
        _print_document(said, "", "")
        sys.exit(INTERRUPTED if is_interrupted else 1)
    except click.ClickException as misuse:
        misuse.show()
        usage = misuse.ctx.command_path if isinstance(misuse, click.UsageError) and misuse.ctx else "aml-images"
        _print_document(misuse.format_message().rstrip("."), usage, f"`{usage} --help` shows how it is used.")
        sys.exit(misuse.exit_code)
    except BrokenPipeError:
        # What is left in the buffer would be written at the end, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _end(refused_by_system(error))


def _end(error: FactoryError) -> NoReturn:
    """Say what is wrong, to people and, if asked to, to programs."""
    from aml_images_dagster.cli.console import print_error

    print_error(error)
    _print_document(error.what, error.where, error.hint)
    sys.exit(error.exit_code)


def _print_document(what: str, where: str, hint: str) -> None:
    """The document of a command with `--json` that has failed before it had another one to print."""
    if "--json" not in sys.argv and not _asks_for_json(sys.argv):
        return
    from aml_images_dagster.cli import options

    if not options.has_printed_json():
        options.print_json({"error": {"what": what, "where": where, "hint": hint}})


def _asks_for_json(words: list[str]) -> bool:
    return "--format=json" in words or ("--format", "json") in pairwise(words)
