"""What failures mean, in the words of all versions; and what a real builder can't be made to do on demand."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.engine.buildkit.builder import BuildKitBuilder
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.buildkit.faults import BuilderLost, PushFailed, fault_of
from aml_images_dagster.engine.buildkit.progress import Progress
from aml_images_dagster.engine.interface import BuildRequest, DockerfileFailed
from aml_images_dagster.errors import BuildFailed, Unreachable
from tests.engine.buildkit.conftest import INSPECTION, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

TAG = "registry.example/tests/image:1"
DIGEST = f"sha256:{'1' * 64}"
PUSHING = b'{"statuses": [{"id": "pushing layers", "vertex": "a"}]}\n'


def fault(
    said: str,
    *,
    pushing: bool = False,
    answers: bool = True,
    output: bytes = b"",
    platform: str = "linux/amd64",
) -> BuildFailed | Unreachable:
    progress = Progress(lambda _: None)
    progress.take((PUSHING if pushing else b"") + output + (f"ERROR: {said}\n" if said else "").encode())
    request = BuildRequest(Path("context.tar"), "Dockerfile", TAG, platform, 60)
    return fault_of(
        "failed",
        progress,
        request,
        where="here",
        platforms=lambda: ("linux/amd64",),
        push_seconds=60,
        answers=lambda: answers,
        space=lambda: ("/data", 10**12),
    )


@pytest.mark.parametrize(
    ("quoted", "line"),
    [
        ("Dockerfile:7\n-----\n   7 | >>> RUN false\n-----\n", 7),
        ("Dockerfile:2\nDockerfile:3\n", 3),
        ("#5 Dockerfile:7\n", None),
        ("xDockerfile:7\n", None),
        ("Dockerfile:\n", None),
        ("", None),
    ],
)
def test_the_line_of_the_dockerfile_that_failed(quoted: str, line: int | None) -> None:
    for said in ("process false did not complete successfully: exit code: 1", "failed to resolve source metadata"):
        found = fault(f"failed to solve: {said}", output=quoted.encode())
        assert isinstance(found, DockerfileFailed)
        assert found.line == line


def test_a_full_disk_is_no_fault_of_the_dockerfile() -> None:
    found = fault("failed to solve: no space left on device", output=b"Dockerfile:7\n")
    assert isinstance(found, BuildFailed)
    assert not isinstance(found, DockerfileFailed)


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        ("failed to push x: unexpected status from POST request: 401 Unauthorized", Unreachable, "Sign in"),
        ("denied: requested access to the resource is denied", Unreachable, "Sign in"),
        (
            "failed to push x: unexpected status from PUT request: 429 Too Many Requests",
            PushFailed,
            "too many requests",
        ),
        ("toomanyrequests: slow down", PushFailed, "too many requests"),
        ("failed to push x: unexpected status: 500 Internal Server Error", PushFailed, "running"),
        ("failed to push x: unknown: made to fail", PushFailed, "running"),
        ("failed to push x: failed to do request: Put: EOF", PushFailed, "running"),
        ("received unexpected HTTP status: 503 Service Unavailable", PushFailed, "running"),
    ],
)
def test_a_push_that_is_refused(said: str, kind: type[Unreachable], hint: str) -> None:
    found = fault(f"failed to solve: {said}", pushing=True)
    assert type(found) is kind
    assert said in found.what
    assert hint in found.hint


@pytest.mark.parametrize(
    "said",
    [
        "failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF",
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        'failed to list workers: Unavailable: connection error: desc = "transport: Error while dialing"',
    ],
)
@pytest.mark.parametrize("pushing", [True, False])
def test_a_builder_that_was_lost_is_no_failed_build(said: str, pushing: bool) -> None:
    assert isinstance(fault(said, pushing=pushing, answers=False), BuilderLost)
    assert isinstance(fault(said, pushing=pushing, answers=True), BuilderLost)


def test_a_client_that_ends_without_a_word_has_lost_its_builder_only_if_that_does_not_answer() -> None:
    assert isinstance(fault("", answers=False), BuilderLost)
    assert isinstance(fault("", answers=True), BuildFailed)
    assert isinstance(fault("failed to solve: Canceled: context canceled", answers=False), BuilderLost)


@pytest.mark.parametrize(
    ("said", "what", "hint"),
    [
        ('process "/bin/sh -c make" did not complete successfully: exit code: 7', "exit code: 7", "end of the log"),
        ('process "x" did not complete successfully: exit code: 137', "exit code: 137", "ran out of memory"),
        ("dockerfile parse error on line 2: unknown instruction: RNU", "unknown instruction: RNU", "end of the log"),
        ("failed to write compressed diff: write: no space left on device", "disk is full", "docker system prune"),
        ("x/y:1: failed to resolve source metadata for x/y:1: not found", "not found", "no such image"),
    ],
)
def test_a_build_that_failed(said: str, what: str, hint: str) -> None:
    found = fault(f"failed to solve: {said}")
    assert isinstance(found, BuildFailed)
    assert what in found.what
    assert hint in found.hint


def test_a_full_disk_of_which_only_the_instruction_speaks() -> None:
    output = b'{"vertexes": [{"digest": "a", "name": "RUN dd"}], "logs": [{"vertex": "a", "data": "'
    output += b"ZGQ6IE5vIHNwYWNlIGxlZnQgb24gZGV2aWNlCg=="
    output += b'"}]}\n{"vertexes": [{"digest": "a", "name": "RUN dd", "error": "exit code: 1"}]}\n'
    found = fault("process dd did not complete successfully: exit code: 1", output=output)
    assert "disk is full: 1000.0 GB are free in /data" in found.what


@pytest.fixture
def build(fake_buildx, make_context, tmp_path) -> Callable[..., object]:
    """Builds with a script in the place of buildx, on a builder elsewhere."""

    def run(script: str, seconds: float = 30, **options: float) -> object:
        fake_buildx(f"{VERSION} {INSPECTION} build) shift; {script};; esac")
        given = {"wait_seconds": 0, "push_seconds": 30, "pauses": (), **options}
        builder = BuildKitBuilder(
            Buildx(builder="mine"), None, lambda _: None, features_file=tmp_path / "features.json", **given
        )
        request = BuildRequest(make_context({"Dockerfile": "FROM x\n"}), "Dockerfile", TAG, "linux/amd64", seconds)
        return builder.build_and_push(request, lines.append, still_wanted=lambda: None, started=lambda _: None)

    lines: list[str] = []
    return run


def test_a_push_that_hangs_ends_at_its_own_deadline(build) -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match="could not push the image: not finished after 1 s"):
        build(f"echo '{PUSHING.decode().strip()}' >&2; sleep 60", push_seconds=1)
    assert time.monotonic() - began < 20


METADATA = 'for a in "$@"; do case $a in --metadata-file=*) f=${a#*=};; esac; done'
PUSHED = f'{METADATA}; echo \'{{"containerimage.digest": "{DIGEST}"}}\' >$f'


def test_a_cache_that_is_slow_to_export_is_no_push_that_hangs(build) -> None:
    export = {"vertexes": [{"digest": "c", "name": "exporting cache to registry", "started": "2026-11-27T00:00:00Z"}]}
    events = f"{PUSHING.decode().strip()}\n{json.dumps(export)}"
    done = build(f"echo '{events}' >&2; sleep 3; {PUSHED}", push_seconds=1)
    assert done.digest == DIGEST


def test_a_registry_with_errors_of_its_own_is_waited_for(build, tmp_path) -> None:
    fails = (
        f"echo '{PUSHING.decode().strip()}' >&2; echo 'ERROR: failed to push: 500 Internal Server Error' >&2; exit 1"
    )
    count = tmp_path / "count"
    done = build(f"echo x >>{count}; if [ $(wc -l <{count}) -lt 3 ]; then {fails}; fi; {PUSHED}", pauses=(0.1, 0.1))
    assert done.digest == DIGEST
    with pytest.raises(PushFailed, match="500"):
        build(fails, pauses=(0.1,))


def test_a_builder_that_is_lost_and_back_builds_once_more(build, tmp_path) -> None:
    count = tmp_path / "count"
    lost = "echo 'ERROR: error reading from server: EOF' >&2; exit 1"
    with pytest.raises(BuildFailed, match="exit code: 7"):
        build(
            f"echo x >>{count}; if [ $(wc -l <{count}) -lt 2 ]; then {lost}; fi;"
            "echo 'ERROR: did not complete successfully: exit code: 7' >&2; exit 1",
            wait_seconds=10,
        )
    assert count.read_text() == "x\nx\n"


def test_a_client_that_was_killed_is_named(build) -> None:
    with pytest.raises(BuildFailed, match="buildx was killed by SIGKILL") as caught:
        build("kill -9 $$")
    assert "ran out of memory" in caught.value.hint


def test_an_end_without_a_digest_is_no_success(build) -> None:
    with pytest.raises(BuildFailed, match="does not say what it pushed"):
        build("exit 0")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_step_ends_its_client(build, tmp_path, how: signal.Signals) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    pid = tmp_path / "pid"

    def strike() -> None:
        until = time.monotonic() + 20
        while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), how)

    before = signal.signal(how, interrupt)
    thread = threading.Thread(target=strike)
    try:
        thread.start()
        with pytest.raises(Interrupted):
            build(f"echo $$ >{pid}; sleep 60")
    finally:
        signal.signal(how, before)
        thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def failed_run(name: str) -> bytes:
    """RUN whose program the kernel refuses."""
    vertex = {"digest": "a", "name": name, "error": "exit code: 1"}
    output = base64.b64encode(b"exec /bin/sh: exec format error\n").decode()
    events = [{"vertexes": [{"digest": "a", "name": name}]}, {"logs": [{"vertex": "a", "data": output}]}]
    return b"".join(json.dumps(event).encode() + b"\n" for event in (*events, {"vertexes": [vertex]}))


@pytest.mark.parametrize(
    ("name", "platform", "foreign"),
    [
        ("[linux/arm64 2/3] RUN true", "linux/amd64,linux/arm64", "linux/arm64"),
        ("[linux/arm64 build 2/3] RUN true", "linux/amd64,linux/arm64", "linux/arm64"),
        ("[2/3] RUN true", "linux/arm64", "linux/arm64"),
        ("[linux/amd64->arm64 2/3] RUN true", "linux/amd64,linux/arm64", ""),
        ("[linux/amd64 2/3] RUN /not-a-program", "linux/amd64,linux/arm64", ""),
        ("[2/3] RUN /not-a-program", "linux/amd64", ""),
    ],
)
def test_a_platform_that_the_builder_does_not_emulate_is_named(name: str, platform: str, foreign: str) -> None:
    said = 'failed to solve: process "/bin/sh -c true" did not complete successfully: exit code: 1'
    found = fault(said, output=failed_run(name), platform=platform)
    assert isinstance(found, BuildFailed)
    assert (f"RUN cannot run for {foreign}" in found.what) == bool(foreign)
    assert ("qemu-user-static" in found.hint) == bool(foreign)
    assert "exec format error" in found.log
