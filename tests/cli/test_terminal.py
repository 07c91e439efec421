"""What reaches a terminal, byte by byte."""

from __future__ import annotations

import io
import os
import pty
import re
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.ledger import Ledger, TagChange
from aml_images_dagster.builds.records import BuildFailure
from aml_images_dagster.cli.changes import changes_table
from aml_images_dagster.cli.console import new_table, open_console
from tests.hostile_text import HOSTILE
from tests.records import DIGEST, begun_release, build_record, staged_image
from tests.terminal import read_to_end

if TYPE_CHECKING:
    from tests.image_repository import ImageRepository

BUILD = "20261123.aaaaaaaa"


def on_a_terminal(repository: ImageRepository, *arguments: str, **environment: str) -> tuple[int, bytes]:
    """Exit code of `aml-images`, and what it writes to its terminal."""
    child, terminal = pty.fork()
    if child == 0:
        terminal_of = {"TERM": "xterm-256color", "COLUMNS": "200", **environment}
        os._exit(repository.be_the_command(arguments, terminal_of, 1, 2))
    return read_to_end(child, terminal)


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


LONG = f"busybox@sha256:{'b' * 64}"
OTHER = "20261122.bbbbbbbb"


@pytest.fixture
def history(repository: ImageRepository) -> ImageRepository:
    """With a build, its release and a rollback, and an image on a digest."""
    repository.write_image("apps/pinned", f"FROM {LONG}\n")
    repository.write(repository.root / "schedules" / "monthly.yaml", "cron: 0 3 * * *\nimages: [all]\n")
    artifacts = Artifacts(str(repository.artifacts))
    for number, status in ((BUILD, "failed"), (OTHER, "succeeded")):
        folder = artifacts.build(number)
        folder.write_build(
            build_record(
                number, status=status, images=("apps/other", "tools/shell"), commit="c" * 40, trigger="command line"
            )
        )
        folder.write_staged(
            staged_image("apps/other", number, reasons=("modified: images/apps/other/a/long/path/to/a/file",))
        )
    ledger = Ledger(artifacts)
    tags = [
        TagChange(image="apps/other", repository="public/azureml/other", tag=tag, before=before, after=DIGEST)
        for tag, before in (("20261122.v1", None), ("latest", f"sha256:{'2' * 64}"))
    ]
    about = {"changes": tuple(tags), "who": "somebody@example.com", "reason": "it was broken, as customers have said"}
    ledger.complete(ledger.append(begun_release(OTHER, **about)), "somebody@example.com")
    ledger.append(begun_release(OTHER, action="rollback", **about))
    return repository


@pytest.mark.parametrize(
    ("command", "whole"),
    [
        pytest.param(("list",), [LONG, "apps/pinned"], id="list"),
        pytest.param(("show", "pinned"), [LONG, f"FROM {LONG}"], id="show"),
        pytest.param(("show", "other"), [f"{BUILD} failed, 2026-11-23"], id="show with builds"),
        pytest.param(("graph",), [LONG, "apps/pinned"], id="graph"),
        pytest.param(("builds",), [BUILD, OTHER, "20261123.v1", "tools/shell"], id="builds"),
        pytest.param(("status", BUILD), [BUILD, DIGEST[:19], "c" * 40, "apps/other"], id="status"),
        pytest.param(("releases",), [OTHER, "20261123.v1", "somebody@example.com"], id="releases"),
        pytest.param(("discover",), ["apps/pinned"], id="discover"),
        pytest.param(("validate",), ["images/apps/other/Dockerfile:1"], id="validate"),
        pytest.param(("schedules",), ["schedules/monthly.yaml"], id="schedules"),
        pytest.param(("cleanup", OTHER, "--force"), [OTHER], id="cleanup"),
    ],
)
@pytest.mark.parametrize("columns", [60, 40])
def test_on_a_narrow_terminal_no_word_is_broken_and_no_line_is_too_long(
    history: ImageRepository, command: tuple[str, ...], whole: list[str], columns: int
) -> None:
    nowhere = dict.fromkeys(("AML_IMAGES_STAGING_REGISTRY", "AML_IMAGES_PRODUCTION_REGISTRY"), "127.0.0.1:9")
    _, written = on_a_terminal(history, *command, COLUMNS=str(columns), **nowhere)
    lines = re.sub(rb"\x1b\[[0-9;]*m", b"", written).decode().split("\r\n")
    text = "\n".join(lines)
    assert "Traceback" not in text
    for word in whole:
        assert word in text if columns == 60 else word.split()[-1] in text
    # The label of a fact, a branch of the graph, and a word.
    too_long = [line for line in lines if len(line) > columns and len(re.findall(r"(?! )[^─├└│ ]{15,}", line)) != 1]
    assert not too_long


@pytest.mark.parametrize("columns", ["100", "120", "200"])
def test_on_a_wide_terminal_no_word_is_broken_either(history: ImageRepository, columns: str) -> None:
    history.write_image("apps/both", f"FROM {LONG} AS a\nFROM {LONG.replace('b', 'c')}\nCOPY --from=a /x /x\n")
    _, written = on_a_terminal(history, "list", COLUMNS=columns)
    text = re.sub(rb"\x1b\[[0-9;]*m", b"", written).decode()
    assert text.count(LONG) == 2
    assert max(map(len, text.splitlines())) <= int(columns)


def test_tags_that_change_stand_below_each_other_on_a_narrow_terminal() -> None:
    changes = [
        TagChange(image="a/b", repository="public/azureml/b", tag=tag, before=before, after=DIGEST)
        for tag, before in (("20261122.v1", None), ("latest", f"sha256:{'2' * 64}"))
    ]
    shown = {}
    for columns in (60, 120):
        file = io.StringIO()
        with mock.patch.dict(os.environ, {"COLUMNS": str(columns), "NO_COLOR": "1"}):
            open_console(file=file).print(changes_table(changes))
        shown[columns] = file.getvalue().splitlines()
    assert shown[60] == [
        "public/azureml/b:20261122.v1",
        "  old  -",
        "  new  sha256:111111111111",
        "       new",
        "public/azureml/b:latest",
        "  old  sha256:222222222222",
        "  new  sha256:111111111111",
        "       moves",
    ]
    assert len(shown[120]) == 3


def test_a_message_on_a_narrow_terminal_is_broken_between_words_and_in_a_file_not_at_all() -> None:
    path = f"/{'folder/' * 12}file"
    message = f"Artifacts of build {BUILD} are below the folder {path} now"
    told, file = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "40"}):
        open_console(file=told).print(message)
    with mock.patch.dict(os.environ):
        os.environ.pop("COLUMNS", None)
        open_console(file=file).print(f"{message} {message} {message}")
    assert told.getvalue() == f"Artifacts of build {BUILD} are\nbelow the folder\n{path}\nnow\n"
    assert file.getvalue() == f"{message} {message} {message}\n"


@given(
    st.lists(st.lists(st.text("abc -\n", max_size=40), min_size=3, max_size=3), min_size=1, max_size=3),
    st.integers(20, 200),
)
def test_no_word_of_a_table_is_broken_and_no_line_is_too_long_at_any_width(rows: list[list[str]], width: int) -> None:
    written = io.StringIO()
    table = new_table("name", "first", "second")
    for number, row in enumerate(rows):
        table.add_row(f"image{number}", *row[1:])
    with mock.patch.dict(os.environ, {"COLUMNS": str(width)}):
        open_console(file=written).print(table)
    lines = written.getvalue().splitlines()
    words = sorted(word for row in rows for cell in row[1:] for word in cell.split())
    found = sorted(word for line in lines for word in line.split())
    assert set(words) <= set(found)
    assert all(len(line) <= width or len(line.split()) <= 2 for line in lines)
