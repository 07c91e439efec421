"""What a real engine can't be made to do on demand, over real sockets."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.engine import docker_engine
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.engine.interface import BuildRequest, RegistryLogin
from aml_images_dagster.errors import BuildFailed, Unreachable
from tests.emulators.faulty_engine import FaultyEngine

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = {"stream": "Step 1/1 : RUN work\n"}
KILLED = {"error": "failed", "errorDetail": {"code": 137, "message": "RUN work returned a non-zero code: 137"}}
REFERENCE = "registry.example/tests/image:1"
DIGEST = "sha256:" + "d" * 64


@pytest.fixture
def request_for(make_context) -> Callable[..., BuildRequest]:
    def make(seconds: float = 30) -> BuildRequest:
        return BuildRequest(make_context({"Dockerfile": "FROM x\n"}), "Dockerfile", REFERENCE, "linux/amd64", seconds)

    return make


@pytest.mark.parametrize("ending", ["drop", "orderly"])
def test_a_build_without_a_result_is_a_broken_connection(request_for, ending):
    with FaultyEngine((STEP,), ending) as engine, pytest.raises(Unreachable, match="connection to the engine broke"):
        DockerEngine(engine.url).build(request_for(), print)


def test_code_137_of_an_engine_that_is_gone_means_that_it_was_lost(request_for):
    with FaultyEngine((STEP, KILLED), "stop") as engine, pytest.raises(Unreachable, match="lost while it built"):
        DockerEngine(engine.url).build(request_for(), print)


def test_code_137_of_an_engine_that_answers_means_out_of_memory(request_for):
    with FaultyEngine((STEP, KILLED)) as engine, pytest.raises(BuildFailed, match="ran out of memory") as failed:
        DockerEngine(engine.url).build(request_for(), print)
    assert "RUN work" in failed.value.log


@pytest.mark.parametrize(
    "events",
    [
        ({"stream": "cp: write error: No space left on device\n"}, {"error": "RUN returned a non-zero code: 1"}),
        ({"error": "write /var/lib/engine/tmp/1: no space left on device"},),
        ({"error": "mkdir: There is not enough space on the disk."},),
    ],
)
def test_a_full_disk_is_named(request_for, tmp_path, events):
    with FaultyEngine(events) as engine, pytest.raises(BuildFailed, match=r"disk is full: .* GB are free in") as failed:
        DockerEngine(engine.url, free_space_path=tmp_path, min_free_bytes=0).build(request_for(), print)
    assert "docker system prune" in failed.value.hint


def test_a_stream_that_falls_silent_late_ends_at_the_deadline_and_is_hung_up(request_for):
    """A socket's time-out alone would start again with every line."""
    with FaultyEngine((STEP,), "silence", pause=3.5) as engine:
        began = time.monotonic()
        with pytest.raises(BuildFailed, match="deadline of 4 s"):
            DockerEngine(engine.url).build(request_for(4), print)
        assert time.monotonic() - began < 7
        assert engine.hung_up.wait(30)


def test_a_stream_that_never_ends_ends_at_the_deadline(request_for):
    with FaultyEngine((STEP,), "chatter") as engine, pytest.raises(BuildFailed, match="deadline of 1 s") as failed:
        DockerEngine(engine.url).build(request_for(1), print)
    assert failed.value.log.endswith("and on")


@pytest.mark.parametrize(("verb", "word"), [("push", "push"), ("pull", "pull")])
def test_a_silent_transfer_ends_at_the_deadline(verb, word):
    with FaultyEngine(({"status": "Waiting"},), "silence") as engine:
        part = DockerEngine(engine.url, transfer_seconds=1)
        with pytest.raises(Unreachable, match=rf"could not {word} the image: not finished after 1 s"):
            getattr(part, verb)(REFERENCE, print)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("unauthorized: authentication required", "Sign in"),
        ("denied: requested access to the resource is denied", "Sign in"),
        ('Get "https://x/v2/": http: server gave HTTP response to HTTPS client', "insecure-registries"),
        ("x509: certificate signed by unknown authority", "install its CA"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", "running"),
    ],
)
def test_a_refused_push_says_what_to_do(said, hint):
    refusal = {"error": said, "errorDetail": {"message": said}}
    with FaultyEngine((refusal,)) as engine, pytest.raises(Unreachable) as failed:
        DockerEngine(engine.url).push(REFERENCE, print)
    assert said in failed.value.what
    assert hint in failed.value.hint


@pytest.mark.parametrize("times", [1, 3, 4])
def test_a_pull_that_meets_the_garbage_collector_of_the_engine_is_repeated(monkeypatch, times):
    monkeypatch.setattr(docker_engine, "PULLED_AGAIN_AFTER_SECONDS", (0.01, 0.02, 0.03))
    said = f"failed to check image {DIGEST}: rpc error: code = NotFound desc = content digest {DIGEST}: not found"
    image, repeated = f"registry.example/tests/image@{DIGEST}", []
    with FaultyEngine(({"error": said, "errorDetail": {"message": said}},)) as engine:

        def log(line: str) -> None:
            repeated.extend([line] if "pulling again in" in line else [])
            if len(repeated) == times:
                engine.events, engine.images = ({"status": f"Digest: {DIGEST}"},), {image: {"Id": "the image"}}

        if times > 3:
            with pytest.raises(Unreachable, match="removed content of the image while it pulled it"):
                DockerEngine(engine.url).pull(image, log)
        else:
            assert DockerEngine(engine.url).pull(image, log) == "the image"
    assert len(repeated) == min(times, 3)


def test_the_login_travels_with_the_call_and_appears_nowhere_else():
    lines: list[str] = []
    secret = "p4ssw0rd-of-robot"
    events = (
        {"status": f"using {secret}"},
        {"error": f"https://robot:{secret}@registry.example says no to {secret}"},
    )
    with FaultyEngine(events) as engine:
        with pytest.raises(Unreachable) as failed:
            DockerEngine(engine.url).push(REFERENCE, lines.append, RegistryLogin("robot", secret))
        assert "X-Registry-Auth" in engine.headers
    assert secret not in f"{failed.value} {failed.value!r} {lines}"
    assert lines == ["using ***"]


def test_output_in_pieces_becomes_lines_and_progress_is_left_out(request_for):
    lines: list[str] = []
    events = (
        {"stream": "one "},
        {"stream": "line\nnext\n\n 10%\r 20%\r100%\n"},
        {"id": "abc", "status": "Downloading", "progressDetail": {"current": 1, "total": 2}},
        {"id": "abc", "status": "Pull complete", "progressDetail": {}},
        {"stream": "no end"},
    )
    with FaultyEngine(events) as engine, pytest.raises(Unreachable):
        DockerEngine(engine.url).build(request_for(), lines.append)
    assert lines == ["one line", "next", "100%", "abc: Pull complete", "no end"]


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ({"OperatingSystem": "Windows Server Version 21H2 (OS Build 20348.2031)"}, "10.0.20348.2031"),
        ({"OperatingSystem": "Windows Server", "OSVersion": "10.0.17763"}, "10.0.17763"),
    ],
)
def test_a_windows_engine_says_its_build(said, version):
    windows = {"Os": "windows", "Arch": "amd64", "Version": "25.0"}
    with FaultyEngine(info={"OSType": "windows", **said}, version=windows) as engine:
        info = DockerEngine(engine.url).info()
    assert (info.os, info.os_version, info.network_mtu, info.free_bytes) == ("windows", version, None, None)


def test_a_canceled_caller_hangs_up(request_for):
    def cancel(_: str) -> None:
        raise KeyboardInterrupt

    with FaultyEngine((STEP,), "silence") as engine:
        with pytest.raises(KeyboardInterrupt):
            DockerEngine(engine.url).build(request_for(), cancel)
        assert engine.hung_up.wait(30)


def test_a_context_that_is_not_there_is_no_matter_of_the_engine(request_for):
    request = BuildRequest(Path("/absent/context.tar"), "Dockerfile", REFERENCE, "linux/amd64", 5)
    with FaultyEngine() as engine, pytest.raises(FileNotFoundError):
        DockerEngine(engine.url).build(request, print)


def test_an_error_of_the_log_is_the_callers(request_for):
    def broken_pipe(_: str) -> None:
        raise BrokenPipeError("nobody reads")

    with FaultyEngine((STEP,), "silence") as engine:
        with pytest.raises(BrokenPipeError):
            DockerEngine(engine.url).build(request_for(), broken_pipe)
        assert engine.hung_up.wait(30)
