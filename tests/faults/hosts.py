"""Hosts of a test: each has its own network, process ids, name and temporary folder, as another machine would have.

They share what machines of a factory share: Postgres, registries, the artifacts store and the engine's socket. These
listen on loopback ports of this machine, and a host reaches them at its own loopback. Needs root.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.faults.own_engine import Tunnel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).parents[2]
CODE_PORT = 4266
_SECONDS = 60
_FIRST_PROCESS = """
import signal, socket, sys
socket.sethostname(sys.argv[1])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # it is the parent of orphans, and leaves no zombies
print("up", flush=True)
while True:
    signal.pause()
"""
_COMMAND = "import sys; sys.argv[0] = 'aml-images'; from aml_images_dagster.cli.main import main; main()"


class Host:
    """A context manager: the host runs from the beginning.

    Args:
        name: Its name, and that of its network namespace.
        folder: Its files.
        ports: Loopback ports of this machine that it reaches at its own loopback.
        repository: The git repository that it has a clone of.
        environment: Variables of all its processes.

    Attributes:
        name: See above.
        root: Its clone.
    """

    def __init__(
        self, name: str, folder: Path, ports: Iterable[int], repository: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.root = folder / "repository"
        self._folder, self._ports, self._origin = folder, ports, repository
        home = folder / "dagster"
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_", "COLUMNS"))},
            **environment,
            "DAGSTER_HOME": str(home),
            "AML_IMAGES_CODE_HOST": "127.0.0.1",
            "AML_IMAGES_CODE_PORT": str(CODE_PORT),
            "TMPDIR": str(folder / "tmp"),
            "PYTHONPATH": str(ROOT),
        }
        self._stack = ExitStack()
        self._tunnels: list[Tunnel] = []
        self._first: subprocess.Popen[str] | None = None
        self._pid = 0
        self._logs = 0

    def __enter__(self) -> Self:
        for path in (self._folder / "tmp", self._folder / "dagster"):
            path.mkdir(parents=True)
        (self._folder / "dagster" / "dagster.yaml").symlink_to(ROOT / "deploy" / "dagster-postgres.yaml")
        _run("git", "clone", "-q", str(self._origin), str(self.root))
        (self.root / ".aml-images").mkdir()
        (self.root / ".aml-images" / ".gitignore").write_text("*\n")
        with ExitStack() as stack:
            _run("ip", "netns", "add", self.name)
            stack.callback(_run, "ip", "netns", "delete", self.name)
            _run("ip", "netns", "exec", self.name, "ip", "link", "set", "lo", "up")
            self._tunnels = [stack.enter_context(Tunnel(self.name, port)) for port in self._ports]
            stack.callback(self.kill)
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start the host, without any process of the factory."""
        unshare = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        command = ["ip", "netns", "exec", self.name, *unshare, sys.executable, "-c", _FIRST_PROCESS, self.name]
        self._first = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == "up\n"
        # `ip netns exec` becomes unshare, and what that forks is the first process of the host.
        (child,) = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split()
        self._pid = int(child)

    def kill(self) -> None:
        """Kill the host: when its first process dies, the kernel kills all others, and nobody says goodbye."""
        if self._first is None:
            return
        os.kill(self._pid, signal.SIGKILL)
        self._first.wait(_SECONDS)
        self._first = None
        deadline = time.monotonic() + _SECONDS
        while _run("ip", "netns", "pids", self.name).split() not in ([], [str(os.getpid())]):
            assert time.monotonic() < deadline, f"processes of {self.name} do not end"
            time.sleep(0.05)

    def cut_off(self) -> None:
        """Let it reach nothing but the engine any more."""
        for tunnel in self._tunnels:
            tunnel.cut()

    def reconnect(self) -> None:
        """Undo that."""
        for tunnel in self._tunnels:
            tunnel.repair()

    @property
    def is_up(self) -> bool:
        """Whether it was not killed."""
        return self._first is not None

    def execute(self, *command: str) -> HostProcess:
        """Start a program on it, in its clone."""
        self._logs += 1
        log = self._folder / f"{self._logs:03}.log"
        enter = ["nsenter", "--target", str(self._pid), "--pid", "--uts", "--net", "--mount"]
        with log.open("w") as out:
            process = subprocess.Popen(
                [*enter, "env", f"--chdir={self.root}", *command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return HostProcess(process, log)

    def aml_images(self, *arguments: str) -> HostProcess:
        """Start the command line on it."""
        return self.execute(sys.executable, "-W", "ignore", "-c", _COMMAND, *arguments)

    def serve(self) -> HostProcess:
        """Start the code server as deploy/systemd does."""
        location = ["--module-name", "aml_images_dagster.definitions", "--location-name", "aml_images_dagster"]
        listen = ["--host", "127.0.0.1", "--port", str(CODE_PORT)]
        return self.execute(sys.executable, "-m", "dagster", "code-server", "start", *listen, *location)

    def start_daemon(self) -> HostProcess:
        """Start the daemon as deploy/systemd does; there may be only one, on any host."""
        workspace = str(ROOT / "deploy" / "workspace.yaml")
        return self.execute(sys.executable, "-m", "dagster._daemon", "run", "--workspace", workspace)


class HostProcess:
    """A process on a host.

    Args:
        process: It, as this machine sees it.
        log: What it prints.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(self, seconds: float = 300) -> int:
        """Its exit code, once it has ended."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.said[-3000:]}") from None


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
