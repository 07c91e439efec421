"""`aml-images` in copies of a process that has made its imports: a build takes two seconds of a processor, not five.

Each copy is what the command is: one thread, its own session, environment and folder, and the end of a Python program.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
_START_SECONDS = 120
_DAGSTER = (
    "aml_images_dagster.cli.run_build",
    "aml_images_dagster.definitions",
    "dagster._core.launcher",
    "dagster._core.run_coordinator",
    "dagster._core.scheduler",
    "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage",
    "docker",
)
"""What a build imports late; none of it reads settings when it is imported."""
_AZURE = ("azure.ai.ml", "azure.identity", "azure.mgmt.containerregistry", "azure.storage.blob")
"""The same in the profile azure: as much again."""


class CommandServer:
    """Runs commands one after another. It ends with the process that has started it."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_", "COLUMNS"))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from tests.command_server import serve; serve({theirs.fileno()})"],
            cwd=ROOT,
            env=clean,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    def run(
        self, arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end.

        Args:
            arguments: Of the command.
            folder: Where it is started.
            environment: All of its environment.
            seconds: It is killed after that, with all that it has started in its process group.

        Raises:
            subprocess.TimeoutExpired: It was killed.
        """
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            outputs = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
            self._connection.send((arguments, str(folder), dict(environment), outputs))
            assert self._connection.poll(_START_SECONDS), "the server of commands does not answer"
            process = self._connection.recv()
            try:
                has_ended = self._connection.poll(seconds)
            except BaseException:  # whoever runs the tests interrupts them
                os.killpg(process, signal.SIGKILL)
                raise
            if not has_ended:
                os.killpg(process, signal.SIGKILL)
            code = self._connection.recv()
            if not has_ended:
                raise subprocess.TimeoutExpired(["aml-images", *arguments], seconds)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


@cache
def command_server() -> CommandServer:
    """The server of this process."""
    return CommandServer()


def serve(number: int) -> None:
    """Be the server; a copy returns when its command does, and ends as a program does.

    Args:
        number: The file descriptor of the connection.
    """
    importlib.import_module("tests.image_repository")  # it imports the commands
    for module in _DAGSTER:
        importlib.import_module(module)
    connection = Connection(number)
    while True:
        try:
            arguments, folder, environment, outputs = connection.recv()
        except EOFError:
            return
        if environment.get("AML_IMAGES_PROFILE") == "azure":
            for module in _AZURE:
                importlib.import_module(module)
        child = os.fork()
        if child == 0:
            connection.close()
            os.setsid()
            for output, path in enumerate(outputs, 1):
                file = os.open(path, os.O_WRONLY)
                os.dup2(file, output)
                os.close(file)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["aml-images", *arguments]
            from aml_images_dagster.cli.main import main

            main()
            return
        connection.send(child)
        _, status = os.waitpid(child, 0)
        connection.send(os.waitstatus_to_exitcode(status))
