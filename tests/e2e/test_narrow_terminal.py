"""A build in a terminal of 60 columns: what a person sees, from the first line to the last."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import tempfile
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.terminal import read_to_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.e2e

COLUMNS, ROWS = 60, 24
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder whose name is short, so that the place of the artifacts fits into a line."""
    with tempfile.TemporaryDirectory(prefix="b-", dir="/tmp") as home:
        yield Path(home)


def in_a_terminal(repository: ImageRepository, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code of `aml-images`, and what it writes to a terminal of 60 columns."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.chdir(repository.root)
        clean = {
            k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_", "COLUMNS", "LINES"))
        }
        main = "from aml_images_dagster.cli.main import main; main()"
        command = [sys.executable, "-c", main, *arguments]
        os.execve(sys.executable, command, clean | {"TERM": "xterm-256color", **environment})
    code, written = read_to_end(child, terminal)
    return code, written.decode()


def lines_of(written: str) -> list[str]:
    """Every line that was on the screen at any time."""
    return [line for line in re.split(r"[\r\n]+", SEQUENCE.sub("", written)) if line.strip()]


def test_a_build_in_60_columns_wraps_nothing_and_breaks_no_id(image_repository: ImageRepository, home: Path) -> None:
    code, written = in_a_terminal(image_repository, "build", "--all", AML_IMAGES_HOME=str(home))
    lines = lines_of(written)
    assert code == 0, written
    assert [line for line in lines if len(line) > COLUMNS] == []
    build = next(found[0] for line in lines if (found := re.search(r"\d{8}\.[0-9a-f]{8}", line)))
    assert f"build {build} started: 3 images" in lines
    assert f"build {build} succeeded, release tag {build[:8]}.v1" in lines
    assert str(home / "artifacts" / build) in lines[-1]
    assert not [line for line in lines if re.search(r"\d{8}\.[0-9a-f]{0,7}$|sha256:[0-9a-f]{0,11}$", line)]
    images = [image_repository.image(image) for image in ("tools/shell", "apps/hello", "apps/other")]
    for image in images:
        # It changes in place: first where it is, at the end what became of it, and then its paragraph.
        assert any(re.search(rf"{image}\s+\S+ (staged|tested|release entry) \d+ s", line) for line in lines), written
        assert any(re.search(rf"{image}\s+done \d+\.\d s", line) for line in lines), written
        assert image in lines
    assert sum(bool(re.fullmatch(r"  digest  sha256:[0-9a-f]{12}", line)) for line in lines) == len(images)

    code, written = in_a_terminal(image_repository, "status", "latest", AML_IMAGES_HOME=str(home))
    assert code == 0
    assert [line for line in lines_of(written) if len(line) > COLUMNS] == []

    code, written = in_a_terminal(image_repository, "build", "--all", AML_IMAGES_HOME=str(home), TERM="dumb")
    assert code == 0, written
    assert not SEQUENCE.search(written)
    assert [line for line in lines_of(written) if len(line) > COLUMNS] == []
