"""Whether there is a newer SDK is asked of the package index that pip is configured for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.testing.azure_ml import sdk_version
from aml_images_dagster.testing.azure_ml.sdk_version import outdated, sdk, warning

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
        outdated.cache_clear()

    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    outdated.cache_clear()  # another test of this process may have asked
    yield show
    outdated.cache_clear()
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
        assert not outdated().done()


def test_a_newer_one_is_told(index: Index) -> None:
    index("1.0.0", INSTALLED, "99.0.0")
    assert outdated().result() == f"jobs were submitted with {sdk()}, and 99.0.0 is available: update the lock file"


def test_the_newest_one_needs_no_word(index: Index) -> None:
    index("1.0.0", INSTALLED)
    assert outdated().result() == ""


def test_an_index_that_fails_says_nothing(index: Index) -> None:
    index()
    assert outdated().result() == ""


def test_who_waits_is_answered_whatever_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise RuntimeError("no more threads")

    monkeypatch.setattr(sdk_version, "_outdated", fail)
    outdated.cache_clear()
    assert warning(outdated()) == ""
    outdated.cache_clear()


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_version, "_SECONDS", 0.1)
    assert warning(Future()) == ""
