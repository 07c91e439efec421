"""Whether there is a newer SDK is asked of the package index that pip is configured for."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.testing.azure_ml import sdk_version
from aml_images_dagster.testing.azure_ml.sdk_version import newest, sdk, warning

if TYPE_CHECKING:
    from aml_images_dagster.testing.azure_ml.runner import AzureMlRunner
    from tests.emulators.azure.clockwork import Clockwork
    from tests.testing.azure_ml.conftest import MakeJob

INSTALLED = metadata.version("azure-ai-ml")
Index = Callable[..., None]


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """Makes pip see an index with certain versions, or one that answers nothing but errors."""
    shown: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            links = "".join(
                f'<a href="/azure_ai_ml-{v}-py3-none-any.whl">azure_ai_ml-{v}-py3-none-any.whl</a>' for v in shown
            )
            body = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
            self.send_response(200 if shown else 500)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def show(*versions: str) -> None:
        shown[:] = versions
        newest.cache_clear()

    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    newest.cache_clear()  # another test of this process may have asked
    yield show
    newest.cache_clear()
    server.shutdown()
    server.server_close()


def test_a_failure_does_not_wait_for_the_index(
    index: Index, runner: AzureMlRunner, clockwork: Clockwork, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.fails = {"trial"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        assert runner.run(make_job(), print).status == "failed"
        inquiry = newest()
        assert inquiry
        assert not inquiry.answered()
        inquiry.end()


def test_a_newer_one_is_told(index: Index) -> None:
    index("1.0.0", INSTALLED, "99.0.0")
    assert warning() == f"jobs were submitted with {sdk()}, and 99.0.0 is there: update the lock file"


def test_the_newest_one_needs_no_word(index: Index) -> None:
    index("1.0.0", INSTALLED)
    assert warning() == ""


def test_an_index_that_fails_says_nothing(index: Index) -> None:
    index()
    assert warning() == ""


def test_no_job_fails_where_pip_cannot_be_started(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert warning() == ""


def test_nobody_waits_for_ever(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        monkeypatch.setattr(sdk_version, "_SECONDS", 0.1)
        assert warning() == ""
        inquiry = newest()
        assert inquiry
        assert inquiry.answered()
