"""`dagster dev` as scripts/ui starts it: which settings count, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.e2e

SECONDS = 120
LOCATION = """
from pathlib import Path
import dagster as dg
from aml_images_dagster.settings import load_settings

defs = dg.Definitions()
seen = Path({seen!r})
seen.with_suffix(".new").write_text(load_settings().model_dump_json())
seen.with_suffix(".new").replace(seen)
"""


def wait_for(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("end", "address"), [(signal.SIGTERM, ""), (signal.SIGINT, "https://ui.example")], ids=["SIGTERM", "SIGINT"]
)
def test_settings_are_those_of_the_repository_and_a_signal_ends_it_all(
    repository: ImageRepository, tmp_path: Path, end: signal.Signals, address: str
) -> None:
    (repository.root / ".env").write_text(
        "AML_IMAGES_BUILD_NETWORK=theirs\nAML_IMAGES_STAGING_REGISTRY=file.example\n"
        + (f"AML_IMAGES_PULL_REQUESTS__UI_URL={address}\n" if address else "")
    )
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / ".env").write_text("AML_IMAGES_BUILD_NETWORK=ours\nAML_IMAGES_PRODUCTION_REGISTRY=ours.example\n")
    seen, location, workspace = clone / "seen.json", clone / "location.py", clone / "workspace.yaml"
    location.write_text(LOCATION.format(seen=str(seen)))
    workspace.write_text(f"load_from: [{{python_file: {location}}}]\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_"))}
    environment |= {"AML_IMAGES_REPO": str(repository.root), "AML_IMAGES_STAGING_REGISTRY": "environment.example"}
    command = [sys.executable, "-m", "aml_images_dagster.cli.dagster_dev", str(workspace), str(port)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        # As a shell that is not interactive starts it in the background.
        process = subprocess.Popen(
            ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        ready = f"The Dagster UI is at http://127.0.0.1:{port}."
        wait_for(lambda: process.poll() is not None or (seen.exists() and ready in log.read_text()), log)
        assert process.poll() is None, log.read_text()
        assert listens(port)
        settings = json.loads(seen.read_text())
        process.send_signal(end)
        process.wait(SECONDS)
        wait_for(lambda: not lives(process.pid), log)
    finally:
        if lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    said = log.read_text()
    assert f"The Dagster UI will be at http://127.0.0.1:{port}" in said
    assert "Warning" not in said
    assert "INFO" not in said, "a tick of a sensor is no line"
    assert settings["repo"] == str(repository.root)
    assert settings["build_network"] == "theirs"
    assert settings["staging_registry"] == "environment.example"
    assert settings["production_registry"] != "ours.example"
    assert settings["pull_requests"]["ui_url"] == (address or f"http://127.0.0.1:{port}")
    assert settings["pull_requests"]["webserver_url"] == f"http://127.0.0.1:{port}"


def test_a_wrong_setting_is_one_message(repository: ImageRepository) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aml_images_dagster.cli.dagster_dev", "/none/workspace.yaml", "3000"],
        env=os.environ | {"AML_IMAGES_REPO": str(repository.root / "nowhere")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("aml-images: ")
    assert "Traceback" not in done.stderr


def dagster_dev(repository: ImageRepository, port: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_"))}
    return subprocess.run(
        [sys.executable, "-m", "aml_images_dagster.cli.dagster_dev", "/none/workspace.yaml", port],
        env=environment | {"AML_IMAGES_REPO": str(repository.root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_port_that_is_taken_is_refused_and_its_owner_named(repository: ImageRepository) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = dagster_dev(repository, port)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} is taken" in done.stderr
    assert f"by process {os.getpid()}: " in done.stderr


def test_the_command_line_of_an_owner_is_shown_as_far_as_a_person_typed_it(repository: ImageRepository) -> None:
    serve = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    owner = subprocess.Popen(
        [sys.executable, "-c", serve, "--instance-ref", '{"__class__": "InstanceRef"}', "--more"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout is not None
        done = dagster_dev(repository, owner.stdout.readline().strip())
    finally:
        owner.communicate("\n", timeout=60)
    assert done.returncode == 2
    assert f"by process {owner.pid}: {sys.executable}"[:60] in done.stderr
    assert "InstanceRef" not in done.stderr
    assert "--more" not in done.stderr


def test_artifacts_that_contradict_the_profile_are_one_message(repository: ImageRepository) -> None:
    (repository.root / ".env").write_text("AML_IMAGES_ARTIFACTS=az://container/prefix\n")
    done = dagster_dev(repository, "3000")
    assert done.returncode == 2
    assert "need the profile azure" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_word_is_no_port(repository: ImageRepository) -> None:
    done = dagster_dev(repository, "help")
    assert done.returncode == 2
    assert "'help' is no port" in done.stderr


def test_a_second_daemon_of_an_instance_is_refused(repository: ImageRepository) -> None:
    home = repository.root / ".aml-images" / "dagster"
    daemon = subprocess.Popen(
        [sys.executable, "-c", "input()", "dagster._daemon"],
        env=os.environ | {"DAGSTER_HOME": str(home)},
        stdin=subprocess.PIPE,
    )
    try:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        done = dagster_dev(repository, port)
    finally:
        daemon.communicate(b"\n", timeout=60)
    assert done.returncode == 2
    assert f"a daemon of this instance runs already, process {daemon.pid}: " in done.stderr


def test_the_script_shows_its_usage() -> None:
    script = Path(__file__).parents[2] / "scripts" / "ui"
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "scripts/ui [PORT]" in shown.stdout
    assert subprocess.run([script, "--zzz"], capture_output=True, check=False).returncode == 2
