"""Text of strangers does nothing but be read, wherever it comes in."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from rich.table import Table

from aml_images_dagster.builds.records import BuildFailure
from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.discovery import discover
from aml_images_dagster.catalog.tree import CommitTree
from aml_images_dagster.cli.console import line_by_line, open_console
from aml_images_dagster.cli.status import explain_failure
from aml_images_dagster.defs.run import explained, step_log
from aml_images_dagster.defs.run_state import first_failure
from aml_images_dagster.engine.acr_tasks.runs import RunLog
from aml_images_dagster.engine.client import EngineClient
from aml_images_dagster.engine.stream import StreamFault, follow
from aml_images_dagster.errors import BadInput, BuildFailed, FactoryError
from aml_images_dagster.pull_requests.report import FailureReport, ImageReport, Report
from aml_images_dagster.settings import load_settings
from aml_images_dagster.testing.azure_ml import job_state
from aml_images_dagster.testing.azure_ml.workspace import RunDetails
from aml_images_dagster.testing.watch import lines
from tests.hostile_text import HOSTILE, SHOWN, active_in
from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_of_an_engine() -> None:
    logged: list[str] = []
    client = EngineClient("tcp://127.0.0.1:9", version="1.41")
    events = [{"stream": f"{HOSTILE}\n"}, {"status": HOSTILE, "id": "\x1b[2Jlayer"}, {"error": "it failed"}]
    with pytest.raises(StreamFault) as fault:
        follow(client, lambda: events, seconds=60, log=logged.append, result_of=lambda _: None)
    assert logged == [SHOWN, rf"\x1b[2Jlayer: {SHOWN}"]
    assert fault.value.tail.splitlines() == logged


def test_lines_of_acr_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blob:
        def __enter__(self) -> Blob:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def download_blob(self, **_: object) -> SimpleNamespace:
            blob: Any = io.BytesIO(f"{HOSTILE}\n{HOSTILE}".encode())
            blob.readall = blob.getvalue
            blob.properties = SimpleNamespace(
                content_range=f"bytes 0-{len(blob.getvalue()) - 1}/{len(blob.getvalue())}"
            )
            return blob

    logged: list[str] = []
    log = RunLog(lambda: "https://blob.example/log", logged.append)
    monkeypatch.setattr("azure.storage.blob.BlobClient.from_blob_url", lambda *_, **__: Blob())
    log.read_on()
    monkeypatch.setattr(RunLog, "read_on", lambda _: None)
    assert log.finish().splitlines() == logged == [SHOWN, SHOWN]


def test_lines_of_a_test() -> None:
    assert list(lines([f"{HOSTILE}\n".encode()])) == [SHOWN]


def test_the_log_of_an_azure_ml_job() -> None:
    class Workspace:
        def details(self, _: str) -> RunDetails:
            return RunDetails(logs={"user_logs/std_log.txt": "u"})

        def read_log(self, *_: object) -> str:
            return HOSTILE

    workspace: Any = Workspace()
    job: Any = type("Job", (), {"name": "job", "scenario": type("S", (), {"processes_per_node": 1})})
    verdict: Any = type("Verdict", (), {"status": "failed", "reason": ""})
    result = job_state.job_result(workspace, job, verdict, "", 1)
    assert ([log.text for log in result.logs], result.reason) == ([SHOWN], SHOWN)


@pytest.mark.parametrize("error", [BadInput(HOSTILE, where=HOSTILE, hint=HOSTILE), BuildFailed("x", log=HOSTILE)])
def test_what_an_error_repeats(error: FactoryError) -> None:
    assert not active_in(f"{error}{error.what}{error.where}{error.hint}{getattr(error, 'log', '')}{error!r}")


def test_the_place_of_an_error_stays_in_its_line() -> None:
    assert str(BadInput("is bad", where="a\naml-images: all is well")) == r"a\naml-images: all is well: is bad"


def test_why_dagster_says_that_a_step_failed() -> None:
    @dg.op
    def explains() -> None:
        with explained():
            raise BuildFailed(HOSTILE, log=f"`{HOSTILE}`")

    @dg.op
    def breaks() -> None:
        raise RuntimeError(HOSTILE)

    for op in (explains, breaks):
        with dg.DagsterInstance.ephemeral() as instance:
            job = dg.JobDefinition(name="job", graph_def=dg.GraphDefinition(name="g", node_defs=[op]))
            run = job.execute_in_process(instance=instance, raise_on_error=False)
            failure = first_failure(instance, run.run_id)
        assert failure is not None
        assert SHOWN in failure.message
        assert not active_in(failure.message + failure.log)
        assert failure.log in ("", f"`{SHOWN}`")


def test_names_of_changed_files(tmp_path: Path) -> None:
    repository = ImageRepository.create(tmp_path / "repository")
    repository.write(repository.folder("apps/other") / f"{HOSTILE.replace('/', '')}\nx", "")
    head = repository.commit("evil")
    settings = load_settings(repo=repository.root)
    tree = CommitTree(repository.root, head)
    (image,) = discover(tree, load_catalog(settings, tree), "HEAD~1").images
    assert [f"added: images/apps/other/{SHOWN}\\nx"] == list(image.reasons)


def test_the_log_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    step_log(HOSTILE)
    assert capsys.readouterr().out == f"{SHOWN}\n"


def test_what_is_printed_on_a_console(capsys: pytest.CaptureFixture[str]) -> None:
    console = open_console()
    line_by_line(console)(f"{HOSTILE} :package:")
    explain_failure(console, BuildFailure(step="s", message=HOSTILE, log=HOSTILE))
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    console.print(table)
    printed = capsys.readouterr().out
    assert not active_in(printed)
    assert printed.startswith(f"{SHOWN} :package:\n{SHOWN}\n{SHOWN}\n")
    assert printed.count(r"\x1b]52;c;") == 6


def test_a_console_on_a_terminal_still_has_styles() -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    console = open_console(file=terminal)
    console.print(f"[bold]{HOSTILE}[/]")
    printed = terminal.getvalue()
    assert "\x1b[1m" in printed
    assert printed.count("\x1b") == 2  # bold, and its end
    assert not active_in(printed.replace("\x1b", ""))


def test_the_page_of_a_pull_request() -> None:
    failure = FailureReport(HOSTILE, HOSTILE, HOSTILE)
    image = ImageReport(HOSTILE, (HOSTILE,))
    report = Report("0" * 40, "failure", HOSTILE, HOSTILE, (HOSTILE,), images=(image,), failure=failure)
    assert not active_in(report.comment)
    assert SHOWN in report.comment
