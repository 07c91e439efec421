"""`dagster dev` on a repository of images: webserver, daemon, code server; one process group, ended as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WORKSPACE = Path(__file__).resolve().parents[2] / "workspace.yaml"
LOCATION = "aml_images_dagster"

START_SECONDS = 300
STOP_SECONDS = 10
RUN_SECONDS = 300

LOADED = """{ workspaceOrError { ... on Workspace { locationEntries { loadStatus
    locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
RUN = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { status assetSelection { path } stepStats { status }
    eventConnection(limit: 1000) { events { ... on ErrorEvent { error { message } } } } } } }"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
RUNNING = ("QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING")


class DagsterUi:
    """A Dagster UI with an instance of its own; a context manager that starts and ends it.

    Args:
        repository: Root of the repository of images that it serves.
        home: Folder of the instance, and of the log of all its processes; one that is there already is gone on with.
        workspace: What it loads.
        settings: Variables for all its processes.
    """

    def __init__(
        self, repository: Path, home: Path, workspace: Path = WORKSPACE, settings: Mapping[str, str] | None = None
    ) -> None:
        self.repository = repository
        self.home = home
        self.workspace = workspace
        self.settings = dict(settings or {})
        self.log = home / "dagster-dev.log"
        self.url = ""

    def __enter__(self) -> DagsterUi:
        self.home.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_"))}
        environment |= {"DAGSTER_HOME": str(self.home), **self.settings}
        command = [sys.executable, "-m", "aml_images_dagster.cli.dagster_dev", str(self.workspace), str(port)]
        with self.log.open("ab") as log:
            # A group of its own: the parent alone, when ended, leaves servers that hold the port and take up runs.
            self._process = subprocess.Popen(
                command,
                cwd=self.repository,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_for(self._is_loaded, START_SECONDS, "the code location is not loaded")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def processes(self, program: str = "") -> set[int]:
        """Its processes that have this in their command line."""
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if os.getpgid(int(entry.name)) == self._process.pid and program in command:
                    found.add(int(entry.name))
        return found

    def restart(self) -> None:
        """End what is left of it, and start it again on the same instance."""
        self._stop()
        self.__enter__()

    def graphql(self, query: str, **variables: object) -> Any:
        """The data that a query answers with."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            document = json.load(answer)
        assert "errors" not in document, document["errors"]
        return document["data"]

    def finished_run(self, run_id: str) -> dict[str, Any]:
        """A run, once it has ended: status, assetSelection, stepStats, and `errors`, the messages of what failed."""
        self._wait_for(
            lambda: self.graphql(STATUS, id=run_id)["runOrError"]["status"] not in RUNNING,
            RUN_SECONDS,
            f"run {run_id} has not ended",
        )
        found: dict[str, Any] = self.graphql(RUN, id=run_id)["runOrError"]
        events = found.pop("eventConnection")["events"]
        found["errors"] = [event["error"]["message"] for event in events if event.get("error")]
        return found

    def _is_loaded(self) -> bool:
        assert self._process.poll() is None, f"dagster dev has ended: {self._log_end()}"
        try:
            entries = self.graphql(LOADED)["workspaceOrError"]["locationEntries"]
        except (urllib.error.URLError, ConnectionError):
            return False  # the webserver does not listen yet
        loaded = [entry["locationOrLoadError"] for entry in entries if entry["loadStatus"] == "LOADED"]
        assert all(location["__typename"] != "PythonError" for location in loaded), loaded
        return bool(loaded)

    def _wait_for(self, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{otherwise} after {seconds} s: {self._log_end()}"
            time.sleep(0.5)

    def _log_end(self) -> str:
        return f"{self.log}\n{self.log.read_text(errors='replace')[-3000:]}"

    def _stop(self) -> None:
        # Not SIGINT: who runs the tests in the background has it ignored, and children inherit that.
        for end in (signal.SIGTERM, signal.SIGKILL):
            self._signal(end)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline:
                self._process.poll()  # a parent that has ended is in its group until it is waited for
                if not self._signal(0):
                    return
                time.sleep(0.1)
        raise AssertionError(f"processes of group {self._process.pid} do not end: {self._log_end()}")

    def _signal(self, number: int) -> bool:
        """Send a signal to every process of the group; whether there is any."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True
