"""Every fault is a small function: it starts a build, strikes at the right moment, and says when the fault was over."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from tests.emulators.buildkit_socket import RemoteBuilder
from tests.emulators.faulty_registry import Fault as Answer
from tests.faults.matrix import FILE
from tests.faults.own_engine import is_alive
from tests.faults.scene import FAULTY

if TYPE_CHECKING:
    from tests.faults.scene import Build, Scene, Started

At = Literal["build", "registry", "engine"]
Inflict = Callable[["Scene", "Started"], "Build"]
LOST = "the engine was lost while it built"


@dataclass(frozen=True)
class Fault:
    """A fault that a build meets.

    Attributes:
        at: What fails first. The faults of each are a class of tests, which may run beside the others.
        name: As the matrix shows it.
        started: How the build is started.
        inflict: Lets it happen.
        daemon: Whether the Dagster daemon has to run, because nobody else is there to clean up.
        by_hand: Left out where time is short: it is slow, or a variant of another one.
        says: Regular expression for what the command line says of it; empty where nobody is left to say it.
    """

    at: At
    name: str
    started: Started
    inflict: Inflict
    daemon: bool
    by_hand: bool
    says: str = ""

    def __str__(self) -> str:
        return re.sub(r"\W+", "-", f"{self.name} by {self.started}")


FAULTS: list[Fault] = []


def fault(
    at: At, name: str, *started: Started, daemon: bool = False, by_hand: tuple[Started, ...] = (), says: str = ""
) -> Callable[[Inflict], Inflict]:
    def register(inflict: Inflict) -> Inflict:
        FAULTS.extend(Fault(at, name, how, inflict, daemon or how == "UI", how in by_hand, says) for how in started)
        return inflict

    return register


def chosen(at: At, *, daemon: bool) -> pytest.MarkDecorator:
    """A test of each fault that is to be run: of all when the matrix is wanted as a file."""
    mine = [fault for fault in FAULTS if fault.at == at and fault.daemon == daemon]
    return pytest.mark.parametrize("fault", [one for one in mine if os.environ.get(FILE) or not one.by_hand], ids=str)


def soon_over(scene: Scene, build: Build) -> Build:
    """The build fails by itself."""
    scene.wait_for_end(build)
    return build


# Exceptions


@fault("build", "RUN fails", "command line", "UI", by_hand=("UI",), says="did not complete successfully: exit code: 1")
def run_fails(scene: Scene, started: Started) -> Build:
    scene.instruction("false")
    return soon_over(scene, scene.start(started))


@fault("build", "scenario fails", "command line", "UI", by_hand=("UI",))
def scenario_fails(scene: Scene, started: Started) -> Build:
    scene.scenario("exit 3")
    return soon_over(scene, scene.start(started))


@fault("build", "scenario times out", "command line", by_hand=("command line",))
def scenario_times_out(scene: Scene, started: Started) -> Build:
    scene.scenario("sleep 300", timeout_minutes=0.02)
    return soon_over(scene, scene.start(started))


# The registry, in mid-push


def pushed_to(scene: Scene) -> str:
    return f"/v2/{scene.repository.families['apps']}/manifests/"


def answered(scene: Scene, started: Started, answer: Answer) -> Build:
    scene.content()
    scene.world.front.faults = [answer]
    return soon_over(scene, scene.start(started))


@fault("registry", "push: auth refused", "command line", says="could not push .* 401 Unauthorized.* Sign in")
def auth_refused(scene: Scene, started: Started) -> Build:
    return answered(scene, started, Answer("status", "PUT", pushed_to(scene), status=401))


@fault(
    "registry", "push: too many requests", "command line", by_hand=("command line",), says="has too many requests: wait"
)
def too_many_requests(scene: Scene, started: Started) -> Build:
    return answered(scene, started, Answer("status", "PUT", pushed_to(scene), status=429))


@fault("registry", "push: registry answers 500", "command line", says="could not push .* 500 Internal Server Error")
def registry_500(scene: Scene, started: Started) -> Build:
    return answered(scene, started, Answer("status", "PUT", pushed_to(scene), status=500))


@fault(
    "registry",
    "push: connection dropped",
    "command line",
    by_hand=("command line",),
    says="could not push .* (EOF|closed network connection|connection reset)",
)
def registry_drops(scene: Scene, started: Started) -> Build:
    return answered(scene, started, Answer("drop", "PUT", pushed_to(scene)))


@fault("registry", "push: registry hangs", "command line", says="could not push .*: not finished after 3 s")
def registry_hangs(scene: Scene, started: Started) -> Build:
    scene.environment["AML_IMAGES_TRANSFER_TIMEOUT_MINUTES"] = "0.05"
    return answered(scene, started, Answer("hang", "PUT", pushed_to(scene)))


@fault("registry", "registry stopped in mid-push", "command line", daemon=True, says="could not push")
def registry_stopped(scene: Scene, started: Started) -> Build:
    scene.content()
    front = scene.world.front
    front.close_gate(pushed_to(scene))
    build = scene.start(started)
    scene.until(front.waiting.is_set, "nothing was pushed")
    return registry_stopped_while(scene, build)


def registry_stopped_while(scene: Scene, build: Build) -> Build:
    """The registry is stopped while a request waits at the gate, and started when the run has ended."""
    scene.strike(build, lambda: scene.world.registry.end(signal.SIGTERM))
    scene.world.front.gate.set()
    scene.wait_for_end(build)
    scene.world.registry.start()
    build.recovered_at = time.time()
    return build


@fault("registry", "registry stopped in mid-test", "UI", by_hand=("UI",))
def registry_stopped_in_test(scene: Scene, started: Started) -> Build:
    scene.scenario("sleep 2; exit 3")
    build = scene.start(started)
    scene.wait_for_job(build)
    scene.strike(build, lambda: scene.world.registry.end(signal.SIGKILL))
    scene.wait_for_end(build)
    scene.world.registry.start()
    build.recovered_at = time.time()
    return build


# Evidence, which is attached when the tests have passed


def artifacts_of(scene: Scene) -> str:
    """Where the artifacts of an image are pushed to, by digest."""
    return f"{pushed_to(scene)}sha256:"


def lists_of(scene: Scene) -> str:
    """Where the lists of what is attached are pushed to; a list is written after its artifacts."""
    return f"{pushed_to(scene)}sha256-"


def in_mid_attach(scene: Scene, started: Started, path: str) -> Build:
    scene.content()
    front = scene.world.front
    front.close_gate(path)
    build = scene.start(started)
    scene.until(front.waiting.is_set, "nothing was attached")
    return build


def step_killed(scene: Scene, build: Build) -> Build:
    scene.strike(build, lambda: kill(*scene.steps(build)))
    return soon_over(scene, build)


@fault("build", "kill -9 of the step between push and attach", "command line")
def step_killed_before_attach(scene: Scene, started: Started) -> Build:
    return step_killed(scene, in_mid_attach(scene, started, artifacts_of(scene)))


@fault("build", "kill -9 of the step between artifact and list", "command line")
def step_killed_in_attach(scene: Scene, started: Started) -> Build:
    return step_killed(scene, in_mid_attach(scene, started, lists_of(scene)))


@fault("build", "kill -9 of the run worker between artifact and list", "UI")
def worker_killed_in_attach(scene: Scene, started: Started) -> Build:
    build = in_mid_attach(scene, started, lists_of(scene))
    scene.strike(build, lambda: kill(scene.worker(build)))
    return build


@fault("registry", "attach: forbidden", "command line")
def attach_forbidden(scene: Scene, started: Started) -> Build:
    return answered(scene, started, Answer("status", "PUT", artifacts_of(scene), status=403))


@fault("registry", "attach: list refused", "command line", by_hand=("command line",))
def list_refused(scene: Scene, started: Started) -> Build:
    return answered(scene, started, Answer("status", "PUT", lists_of(scene), status=403))


@fault("registry", "attach: too many requests", "command line", by_hand=("command line",))
def attach_throttled(scene: Scene, started: Started) -> Build:
    return answered(scene, started, Answer("status", "PUT", artifacts_of(scene), status=429))


@fault("registry", "attach: registry answers 500", "command line")
def attach_500(scene: Scene, started: Started) -> Build:
    return answered(scene, started, Answer("status", "PUT", lists_of(scene), status=500))


@fault("registry", "registry stopped in mid-attach", "command line", daemon=True)
def registry_stopped_in_attach(scene: Scene, started: Started) -> Build:
    return registry_stopped_while(scene, in_mid_attach(scene, started, lists_of(scene)))


# Interrupted by a person, or by what runs the command


def signalled(scene: Scene, started: Started, how: signal.Signals) -> Build:
    scene.scenario("sleep 300")
    build = scene.start(started)
    scene.wait_for_job(build)
    process = build.process
    assert process is not None
    scene.strike(build, lambda: process.send_signal(how))
    return soon_over(scene, build)


@fault("build", "Ctrl-C in test", "command line", by_hand=("command line",))
def interrupted(scene: Scene, started: Started) -> Build:
    return signalled(scene, started, signal.SIGINT)


@fault("build", "SIGTERM in test", "command line", by_hand=("command line",))
def ended(scene: Scene, started: Started) -> Build:
    return signalled(scene, started, signal.SIGTERM)


def terminated(scene: Scene, started: Started, policy: str, *, in_test: bool) -> Build:
    build = in_mid_test(scene, started) if in_test else in_mid_build(scene, started)
    scene.strike(build, lambda: scene.terminate(build, policy))
    return soon_over(scene, build)


@fault("build", "terminate in test", "UI")
def terminated_in_test(scene: Scene, started: Started) -> Build:
    return terminated(scene, started, "SAFE_TERMINATE", in_test=True)


@fault("build", "terminate in build", "UI", by_hand=("UI",))
def terminated_in_build(scene: Scene, started: Started) -> Build:
    return terminated(scene, started, "SAFE_TERMINATE", in_test=False)


@fault("build", "force-terminate in test", "UI", by_hand=("UI",))
def force_terminated_in_test(scene: Scene, started: Started) -> Build:
    return terminated(scene, started, "MARK_AS_CANCELED_IMMEDIATELY", in_test=True)


@fault("build", "force-terminate in build", "UI")
def force_terminated_in_build(scene: Scene, started: Started) -> Build:
    return terminated(scene, started, "MARK_AS_CANCELED_IMMEDIATELY", in_test=False)


# Killed processes


def in_mid_test(scene: Scene, started: Started) -> Build:
    scene.scenario("sleep 300")
    build = scene.start(started)
    scene.wait_for_job(build)
    return build


def in_mid_build(scene: Scene, started: Started, seconds: float = 8) -> Build:
    scene.instruction(f"sleep {seconds}; true")
    build = scene.start(started)
    scene.wait_for_instruction(build)
    return build


def kill(*pids: int) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@fault("build", "kill -9 of the step in test", "command line", "UI", by_hand=("UI",))
def step_killed_in_test(scene: Scene, started: Started) -> Build:
    return step_killed(scene, in_mid_test(scene, started))


@fault("build", "kill -9 of the step in build", "command line", by_hand=("command line",))
def step_killed_in_build(scene: Scene, started: Started) -> Build:
    return step_killed(scene, in_mid_build(scene, started))


@fault("build", "kill -9 of the run worker in test", "command line", "UI", daemon=True, by_hand=("command line",))
def worker_killed_in_test(scene: Scene, started: Started) -> Build:
    build = in_mid_test(scene, started)
    scene.strike(build, lambda: kill(scene.worker(build)))
    return build


@fault("build", "kill -9 of the run worker in build", "command line", "UI", daemon=True, by_hand=("command line", "UI"))
def worker_killed_in_build(scene: Scene, started: Started) -> Build:
    build = in_mid_build(scene, started)
    scene.strike(build, lambda: kill(scene.worker(build)))
    return build


@fault("build", "orphan step pushes after the cleanup", "command line", "UI", daemon=True, by_hand=("command line",))
def orphan_pushes(scene: Scene, started: Started) -> Build:
    scene.content()
    front = scene.world.front
    front.close_gate(pushed_to(scene))
    settings = scene.repository.root / ".env"
    settings.write_text("AML_IMAGES_EXECUTOR=multiprocess\n")  # a fork ends with its run's process
    build = scene.start(started)
    scene.until(front.waiting.is_set, "nothing was pushed")
    settings.unlink()
    orphans = scene.steps(build)
    scene.strike(build, lambda: kill(scene.worker(build)))
    scene.until((scene.eyes.artifacts / build.number / "cleanup.json").exists, "nobody has cleaned up")
    front.gate.set()
    scene.until(lambda: scene.eyes.tags(f"{FAULTY.partition('/')[2]}--{build.number}"), "the orphan has not pushed")
    build.struck_at = build.recovered_at = time.time()
    build.observer.look()
    scene.until(lambda: not any(map(is_alive, orphans)), "the orphan has not ended")
    return build


@fault("build", "kill -9 of the daemon in test, which ends `dagster dev`", "UI", by_hand=("UI",))
def daemon_killed(scene: Scene, started: Started) -> Build:
    assert scene.ui is not None
    build = in_mid_test(scene, started)
    daemon = scene.ui.processes("dagster._daemon")
    assert daemon
    scene.strike(build, lambda: kill(*daemon))
    scene.ui.restart()
    build.recovered_at = time.time()
    return build


@fault("build", "kill -9 of UI, daemon, worker and step at once in test", "UI")
def all_killed(scene: Scene, started: Started) -> Build:
    assert scene.ui is not None
    build = in_mid_test(scene, started)
    # Steps first: one whose run's process is killed before it would clean up.
    everything = [*scene.steps(build), scene.worker(build), *scene.ui.processes()]

    def kill_all() -> None:
        for pid in everything:
            with suppress(ProcessLookupError):  # it ended with another
                os.kill(pid, signal.SIGKILL)

    scene.strike(build, kill_all)
    scene.ui.restart()
    build.recovered_at = time.time()
    return build


@fault("build", "kill -9 of the code server and the run worker in test", "UI")
def code_server_killed(scene: Scene, started: Started) -> Build:
    assert scene.ui is not None
    ui = scene.ui
    build = in_mid_test(scene, started)
    killed = ui.processes(" api grpc ")
    assert killed
    scene.strike(build, lambda: kill(*killed, scene.worker(build)))
    scene.until(lambda: ui.processes(" api grpc ") - killed, "no code server was started again")
    build.recovered_at = time.time()
    return build


@fault("build", "kill -9 of the server that runs are forked from in test", "UI")
def fork_server_killed(scene: Scene, started: Started) -> Build:
    assert scene.ui is not None
    build = in_mid_test(scene, started)
    server = int(Path(f"/proc/{scene.worker(build)}/stat").read_text().rpartition(")")[2].split()[1])
    assert server in scene.ui.processes("multiprocessing.forkserver")
    scene.strike(build, lambda: kill(server))
    return build


# What is reused


def in_mid_recording(scene: Scene) -> Build:
    """In the step that records what is reused: one image has the build's tag, the other is about to get it."""
    scene.fix()
    scene.succeed("command line")
    front = scene.world.front
    front.close_gate(pushed_to(scene))
    build = scene.start("command line")
    scene.until(front.waiting.is_set, "nothing is tagged")
    return build


@fault("build", "kill -9 of the step that records what is reused", "command line")
def step_killed_in_recording(scene: Scene, started: Started) -> Build:
    return step_killed(scene, in_mid_recording(scene))


@fault("build", "kill -9 of the run worker while what is reused is recorded", "command line", daemon=True)
def worker_killed_in_recording(scene: Scene, started: Started) -> Build:
    build = in_mid_recording(scene)
    orphans = scene.steps(build)
    scene.strike(build, lambda: kill(scene.worker(build)))
    # Only then, because a step that went on at once would complete the build.
    scene.until((scene.eyes.artifacts / build.number / "cleanup.json").exists, "nobody has cleaned up")
    scene.world.front.gate.set()
    scene.until(lambda: not any(map(is_alive, orphans)), "the orphan has not ended")
    build.recovered_at = time.time()
    return build


# The engine


def engine_ended_in_test(scene: Scene, started: Started, how: signal.Signals) -> Build:
    build = in_mid_test(scene, started)
    scene.strike(build, lambda: scene.world.engine.end(how))
    scene.wait_for_end(build)
    scene.world.engine.start()
    build.recovered_at = time.time()
    return build


@fault("engine", "engine stopped in test", "command line", daemon=True, by_hand=("command line",))
def engine_stopped_in_test(scene: Scene, started: Started) -> Build:
    return engine_ended_in_test(scene, started, signal.SIGTERM)


@fault("engine", "engine killed in test", "UI", by_hand=("UI",))
def engine_killed_in_test(scene: Scene, started: Started) -> Build:
    return engine_ended_in_test(scene, started, signal.SIGKILL)


@fault(
    "build", "kill -9 of the client in build", "command line", says="buildx was killed by SIGKILL.* ran out of memory"
)
def client_killed_in_build(scene: Scene, started: Started) -> Build:
    build = in_mid_build(scene, started, seconds=60)
    scene.strike(build, lambda: kill(*scene.clients(build)))
    return soon_over(scene, build)


def engine_ended_in_build(scene: Scene, started: Started, how: signal.Signals) -> Build:
    scene.environment["AML_IMAGES_ENGINE_PATIENCE_SECONDS"] = "1"
    # What RUN has started outlives an engine that was killed, until it ends by itself.
    build = in_mid_build(scene, started, seconds=20)
    scene.strike(build, lambda: scene.world.engine.end(how))
    scene.wait_for_end(build)
    scene.world.engine.start()
    build.recovered_at = time.time()
    return build


@fault("engine", "engine stopped in build, longer than a build waits for it", "command line", daemon=True, says=LOST)
def engine_stopped_in_build(scene: Scene, started: Started) -> Build:
    return engine_ended_in_build(scene, started, signal.SIGTERM)


@fault("engine", "engine killed in build, longer than a build waits for it", "command line", daemon=True, says=LOST)
def engine_killed_in_build(scene: Scene, started: Started) -> Build:
    return engine_ended_in_build(scene, started, signal.SIGKILL)


@fault("engine", "remote builder lost in build", "command line", says=f"builder remote-.* {LOST}")
def remote_builder_lost(scene: Scene, started: Started) -> Build:
    scene.environment["AML_IMAGES_ENGINE_PATIENCE_SECONDS"] = "1"
    with tempfile.TemporaryDirectory(prefix="remote-") as folder:
        builder = RemoteBuilder(scene.world.engine.url, Path(folder), Path(folder))
        with builder.socket:
            scene.environment |= {"AML_IMAGES_BUILDER": builder.name, "BUILDX_CONFIG": str(builder.configuration)}
            build = in_mid_build(scene, started, seconds=60)
            scene.strike(build, builder.socket.end)
            return soon_over(scene, build)


@fault("engine", "disk full in build", "command line", says="the engine's disk is full: .* Free space")
def disk_full(scene: Scene, started: Started) -> Build:
    build = in_mid_build_that_writes(scene, started)
    scene.strike(build, scene.world.engine.fill_disk)
    scene.wait_for_end(build)
    scene.world.engine.free_disk()
    build.recovered_at = time.time()
    return build


def in_mid_build_that_writes(scene: Scene, started: Started) -> Build:
    scene.instruction("sleep 3; dd if=/dev/zero of=/zeroes bs=1M count=5")
    build = scene.start(started)
    scene.wait_for_instruction(build)
    return build
