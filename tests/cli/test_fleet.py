"""`aml-images fleet`: the table at the width of the terminal, JSON, and the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from aml_images_dagster.cli import fleet as command
from aml_images_dagster.errors import BadInput
from tests.fleet import fleets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from tests.image_repository import ImageRepository

    Run = Callable[..., Result]


@pytest.fixture
def run(repository: ImageRepository, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, with what is collected."""
    collected = fleets.fleet(fleets.of_each_kind())
    monkeypatch.setattr(command, "collect_fleet", lambda *_: collected)

    def run(*arguments: str, columns: int = 240) -> Result:
        monkeypatch.setenv("COLUMNS", str(columns))
        return CliRunner().invoke(command.command, ["--repo", str(repository.root), *arguments])

    return run


def test_a_row_has_all_of_an_image_and_the_urgent_ones_come_first(run: Run) -> None:
    shown = run(columns=400).stdout.splitlines()
    assert shown[1].split()[:5] == ["base/openmpi4.1-debian12", "Action", "needed", "20261010.v1", "47"]
    for said in ("6 days", "1 critical, 3 high", "current", "20261124.81b0c7d2", "3 passed", "831 MB", "signed"):
        assert said in "\n".join(shown[1:5])
    assert "patch 6 days late" in "\n".join(shown[1:5])
    assert shown[-1] == "12 images: 2 action needed, 4 watch, 5 good, 1 not released."


@pytest.mark.parametrize("columns", [60, 99, 160])
def test_no_line_is_wider_than_the_terminal(run: Run, columns: int) -> None:
    shown = run(columns=columns).stdout
    names = [each.image for each in fleets.of_each_kind()]
    assert all(name in shown for name in names)
    # A word that is wider stays whole.
    assert [line for line in shown.splitlines() if len(line) > columns and len(line.split()) > 1] == []


def test_a_failure_of_many_lines_is_one_in_the_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = "base/b: the notices do not name what is in it\n  `aml-images notices base/b --write` brings them up."
    image = fleets.image("base/b", last_build=fleets.last_build(0, "failed", failure=failure))
    monkeypatch.setattr(command, "collect_fleet", lambda *_: fleets.fleet([image]))
    shown = run().stdout
    assert "base/b: the notices do not name what is in it" in shown
    assert "brings them up" not in shown
    assert json.loads(run("--json").stdout)["images"][0]["last_build"]["failure"] == failure


def test_a_build_whose_image_was_withdrawn_is_called_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    image = fleets.image("base/b", last_build=fleets.last_build(is_withdrawn=True))
    monkeypatch.setattr(command, "collect_fleet", lambda *_: fleets.fleet([image]))
    assert "succeeded, withdrawn" in " ".join(run(columns=400).stdout.split())
    assert json.loads(run("--json").stdout)["images"][0]["last_build"]["is_withdrawn"] is True


def test_json_has_every_image(run: Run) -> None:
    document = json.loads(run("--json").stdout)
    assert document["images"][0]["image"] == "base/openmpi4.1-debian12"
    assert len(document["images"]) == 12


def test_the_page_is_written_into_a_file(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "fleet.html"
    done = run("--html", str(page))
    assert "12 images: 2 action needed" in done.stdout
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_a_page_that_cannot_be_written_is_one_message(run: Run, tmp_path: Path) -> None:
    done = run("--html", str(tmp_path / "nowhere" / "fleet.html"))
    assert isinstance(done.exception, BadInput)
    assert "the page cannot be written: No such file or directory" in str(done.exception)


def test_production_that_does_not_answer_is_one_message(repository: ImageRepository) -> None:
    done = repository.run("fleet")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:" in done.stderr
