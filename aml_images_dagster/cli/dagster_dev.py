"""`dagster dev` for a repository of image folders: the Dagster UI and its daemon.

`python -m` this module, with a workspace file and the port of the UI, becomes it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import requests

from aml_images_dagster.cli.console import open_console, print_error
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import ENV_PREFIX, load_settings
from aml_images_dagster.text import printable_line

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings

_HOST = "127.0.0.1"
_SHOWN = 120
"""Characters of a command line in a message."""
_LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name
    locationOrLoadError { ... on PythonError { message } } } } } }"""
_RELOAD = "mutation ($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"
_LOST = "DagsterUserCodeUnreachableError"
"""What the UI's error names when the server of a code location does not answer; also when it is only slow."""
_SLOW = "timed out"
_LOOK_SECONDS = 10
_SUPERSEDED = "Function `dev_command` is superseded"
"""How Dagster's warning begins that `dg dev` is to be used, which needs a project of its own form."""


def become_dagster_dev(settings: Settings, workspace: str, port: str) -> NoReturn:
    """Go on as `dagster dev`.

    Args:
        settings: Which repository it serves, and where the instance is.
        workspace: Absolute path of the file that names the code location.
        port: Where the UI listens on loopback.
    """
    _check_port(port)
    backends_for(settings)  # what contradicts the profile would keep the code location from being loaded
    from aml_images_dagster.cli.instance import open_instance  # imports Dagster, for which nothing wrong should wait

    home = open_instance(settings).root_directory
    _check_daemon(home)
    os.environ[f"{ENV_PREFIX}REPO"] = str(settings.repo)
    for address in {"ui_url", "webserver_url"} - settings.pull_requests.model_fields_set:
        os.environ[f"{ENV_PREFIX}PULL_REQUESTS__{address.upper()}"] = f"http://{_HOST}:{port}"
    # It puts the .env of the folder that it is started in above the environment. The settings read that of the
    # repository by themselves, below the environment.
    os.chdir(home)
    # A shell lets what it starts in the background ignore SIGINT, and Dagster takes SIGTERM as it takes SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Of its own log only what is wrong: each tick of a sensor is a line, and the UI shows them all.
    options = ["--workspace", workspace, "--host", _HOST, "--port", port, "--log-level", "warning"]
    address = f"http://{_HOST}:{port}"
    open_console(stderr=True).print(f"The Dagster UI will be at {address} in some seconds. Ctrl-C ends it.")
    _keep_code_served(address)
    dagster = [sys.executable, "-W", f"ignore:{_SUPERSEDED}", "-m", "dagster", "dev", *options]
    os.execv(sys.executable, dagster)  # noqa: S606 - a list, without a shell


def _keep_code_served(address: str) -> None:
    """Let a child process say when the UI answers, and then reload a code location whose server is gone.

    It ends with this process.

    `dagster dev` starts a server for each code location, which starts another one, and restarts the first of the two,
    but not the second: without it no sensor would run, and nothing would be cleaned up.
    """
    parent, graphql = os.getpid(), f"{address}/graphql"
    if os.fork():
        return
    try:
        while os.getppid() == parent and not _ask(graphql, _LOCATIONS):
            time.sleep(0.5)
        if os.getppid() == parent:
            open_console(stderr=True).print(f"The Dagster UI is at {address}.")
        lost_before, seconds = set[str](), 0
        while os.getppid() == parent:
            time.sleep(1)
            seconds = (seconds + 1) % _LOOK_SECONDS
            if seconds:
                continue
            lost = _lost_locations(graphql)
            for name in lost & lost_before:  # one that is just being started is lost for a moment
                _ask(graphql, _RELOAD, name=name)
            lost_before = lost - lost_before  # and so is one that was just reloaded
    finally:
        os._exit(0)  # nothing of the parent is to be done twice


def _lost_locations(graphql: str) -> set[str]:
    """The code locations whose server the UI cannot reach."""
    entries = _ask(graphql, _LOCATIONS).get("workspaceOrError", {}).get("locationEntries", [])
    loaded = {entry["name"]: entry["locationOrLoadError"] or {} for entry in entries}
    said = {name: location.get("message", "") for name, location in loaded.items()}
    return {name for name, message in said.items() if _LOST in message and _SLOW not in message}


def _ask(graphql: str, query: str, **variables: str) -> dict[str, Any]:
    """What the UI answers; nothing while it does not."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy leads to this machine
        try:
            answer = session.post(graphql, json={"query": query, "variables": variables}, timeout=60).json()
        except (requests.RequestException, ValueError):
            return {}
    return (answer.get("data") or {}) if isinstance(answer, dict) else {}


def _check_port(port: str) -> None:
    """Refuse a port that cannot be had: Dagster would start its daemon all the same.

    Raises:
        BadInput: It is none, or another process listens there.
    """
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadInput(f"{port!r} is no port", where="scripts/ui", hint="Give a number from 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was left a moment ago is free
        try:
            probe.bind((_HOST, int(port)))
        except OSError as error:
            raise BadInput(
                f"port {port} is taken ({error.strerror}){_owner(int(port))}",
                where="scripts/ui",
                hint="End what listens there, or give another port: scripts/ui PORT.",
            ) from None


def _owner(port: int) -> str:
    """Which process listens on a port, as far as /proc shows it; source: proc_pid_net(5)."""
    listens = f":{port:04X}"
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            rows = [line.split() for line in Path("/proc/net", table).read_text().splitlines()[1:]]
            inodes |= {f"socket:[{row[9]}]" for row in rows if row[1].endswith(listens) and row[3] == "0A"}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(os.readlink(file) in inodes for file in (process / "fd").iterdir()):  # noqa: PTH115 - no path
                return f" by process {process.name}: {_command(process)}"
    return ""


def _check_daemon(home: str) -> None:
    """Refuse a second daemon on an instance: both would evaluate each sensor.

    Raises:
        BadInput: One runs on this machine.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = " ".join(_words(process))
            is_daemon = "dagster._daemon" in command or "dagster-daemon" in command
            if is_daemon and f"DAGSTER_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                raise BadInput(
                    f"a daemon of this instance runs already, process {process.name}: {_command(process)}",
                    where=home,
                    hint="Use the UI that started it, or end that first.",
                )


def _command(process: Path) -> str:
    """The command line of a process, up to what nobody types: Dagster's processes have JSON in theirs."""
    typed = takewhile(lambda word: not word.startswith("{"), _words(process))
    return printable_line(" ".join(typed).strip())[:_SHOWN]


def _words(process: Path) -> list[str]:
    return (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")


if __name__ == "__main__":
    try:
        become_dagster_dev(load_settings(), *sys.argv[1:])
    except FactoryError as error:
        print_error(error)
        sys.exit(error.exit_code)
