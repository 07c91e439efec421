"""What reaches a terminal, byte by byte."""

from __future__ import annotations

import os
import pty
import re
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.records import BuildFailure
from tests.hostile_text import HOSTILE
from tests.records import build_record, staged_image

if TYPE_CHECKING:
    from tests.image_repository import ImageRepository

BUILD = "20261123.aaaaaaaa"


def on_a_terminal(repository: ImageRepository, *arguments: str, **environment: str) -> tuple[int, bytes]:
    """Exit code of `aml-images`, and what it writes to its terminal."""
    child, terminal = pty.fork()
    if child == 0:
        terminal_of = {"TERM": "xterm-256color", "COLUMNS": "200", **environment}
        os._exit(repository.be_the_command(arguments, terminal_of, 1, 2))
    written = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written


@pytest.mark.parametrize("command", [("status", BUILD), ("builds",)])
def test_a_record_of_a_stranger_moves_nothing(repository: ImageRepository, command: tuple[str, ...]) -> None:
    """Also one that an earlier version has written as it was."""
    folder = Artifacts(str(repository.artifacts)).build(BUILD)
    failure = BuildFailure(step=HOSTILE, message=HOSTILE, log=HOSTILE)
    folder.write_build(
        build_record(BUILD, status="failed", images=("apps/hello",), trigger=HOSTILE, commit=HOSTILE, failure=failure)
    )
    folder.write_staged(staged_image("apps/hello", BUILD, reasons=(HOSTILE,)))
    code, written = on_a_terminal(repository, *command)
    assert code == 0
    assert b"\x1b[" in written  # our own styles
    left = re.sub(rb"\x1b\[[0-9;]*m", b"", written).decode()
    assert b"ok " in written
    assert not {char for char in left if not (char.isprintable() or char in "\r\n")}


def test_a_message_about_a_file_of_a_stranger_moves_nothing(repository: ImageRepository) -> None:
    repository.write(repository.folder("apps/hello") / "tests.json", HOSTILE)
    repository.write(repository.folder("apps/other") / "Dockerfile", f"FROM busybox\n{HOSTILE} x\n")
    repository.write(repository.root / "images" / "apps" / HOSTILE.replace("/", "") / "Dockerfile", "FROM busybox\n")
    for command in (("validate",), ("list",), ("graph",), ("show", "apps/other"), ("build", "apps/other")):
        _, written = on_a_terminal(repository, *command)
        left = re.sub(rb"\x1b\[[0-9;]*m", b"", written).decode()
        assert not {char for char in left if not (char.isprintable() or char in "\r\n")}, command


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
@pytest.mark.parametrize("columns", ["60", "200"])
def test_a_terminal_without_colours_gets_none(
    repository: ImageRepository, environment: dict[str, str], columns: str
) -> None:
    folder = Artifacts(str(repository.artifacts)).build(BUILD)
    folder.write_build(build_record(BUILD, status="failed", images=("apps/hello",)))
    for command in (("builds",), ("list",), ("status", BUILD)):
        code, written = on_a_terminal(repository, *command, COLUMNS=columns, **environment)
        assert code == 0
        assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", written), written
