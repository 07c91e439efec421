"""A Docker engine of the tests' own, which they may stop, kill and let run out of disk.

It lives in a network namespace of its own: two engines in one would take each other's networks away. Its images lie
on a small file system in a file. Both need root.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import docker
import docker.errors
import requests

if TYPE_CHECKING:
    from collections.abc import Callable

_CLONE_NEWNET = 0x40000000
_START_SECONDS = 120
_STOP_SECONDS = 60
_UNPACKED = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "aml-images" / "engine" / "usr"
"""Where scripts/services unpacks the engine of Debian 13 on Debian 12; elsewhere the machine's own is as new."""
_LIBC = ctypes.CDLL(None, use_errno=True)


class OwnEngine:
    """A context manager.

    Args:
        folder: Where it keeps everything, below the suite's place; short, because a socket's path is short.
        ports: Loopback ports of this machine that the engine reaches under the same name.
        disk_bytes: Size of its disk.
        namespace: Added to the name of its network namespace, for a second one at a place.

    Attributes:
        url: For settings.
    """

    def __init__(
        self, folder: Path, ports: tuple[int, ...], disk_bytes: int = 400_000_000, namespace: str = ""
    ) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/engine.sock"
        self._ports = ports
        self._disk_bytes = disk_bytes
        self._namespace = folder.parent.name + namespace
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        assert os.geteuid() == 0, "an engine of the tests' own needs root, for its network namespace and its disk"
        with ExitStack() as stack:
            self.folder.mkdir(parents=True)
            disk, self._data = self.folder / "disk.img", self.folder / "data"
            self._data.mkdir()
            with disk.open("wb") as file:
                file.truncate(self._disk_bytes)
            _run("mkfs.ext4", "-q", "-F", str(disk))
            _run("mount", "-o", "loop", str(disk), str(self._data))
            stack.callback(_run, "umount", "--lazy", str(self._data))
            _run("ip", "netns", "add", self._namespace)
            stack.callback(_run, "ip", "netns", "del", self._namespace)
            _run("ip", "netns", "exec", self._namespace, "ip", "link", "set", "lo", "up")
            stack.callback(self._end_all)
            for port in self._ports:
                stack.enter_context(Tunnel(self._namespace, port))
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start the engine unless it runs, and wait until it answers."""
        if self.answers():
            return
        self._forget_containerd()
        (self.folder / "daemon.json").write_text('{"features": {"containerd-snapshotter": true}}')
        command = ["nsenter", f"--net=/var/run/netns/{self._namespace}", _dockerd(), "--host", self.url]
        command += ["--config-file", f"{self.folder}/daemon.json"]
        command += ["--bridge", "none", "--iptables=false", "--ip-masq=false", "--shutdown-timeout", "2"]
        command += ["--data-root", str(self._data), "--exec-root", f"{self.folder}/exec"]
        command += ["--pidfile", f"{self.folder}/engine.pid"]
        with (self.folder / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": f"{_UNPACKED}/sbin:{_UNPACKED}/bin:{os.environ['PATH']}"},
            )
        _wait(self.answers, _START_SECONDS, f"the engine does not start: {self.folder}/engine.log")

    def _forget_containerd(self) -> None:
        """It ends with its engine; but where nobody waits for orphans, a new engine takes the dead one for alive."""
        file = self.folder / "exec" / "containerd" / "containerd.pid"
        if file.exists():
            pid = int(file.read_text())
            _wait(lambda: not is_alive(pid), _STOP_SECONDS, f"containerd {pid} outlives its engine")
            file.unlink()

    def end(self, how: signal.Signals) -> None:
        """End the engine; its containers are killed by SIGTERM, and outlive SIGKILL until it is started again."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(_STOP_SECONDS)

    def answers(self) -> bool:
        try:
            with self.client(seconds=3) as client:
                return bool(client.ping())
        except (docker.errors.DockerException, requests.RequestException):
            return False

    def client(self, seconds: float = 20) -> _Client:
        return _Client(self.url, seconds)

    def fill_disk(self) -> None:
        free = os.statvfs(self._data)
        with suppress(OSError), (self._data / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 65536)
        with suppress(OSError), (self._data / "filler").open("ab") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    def free_disk(self) -> None:
        (self._data / "filler").unlink(missing_ok=True)

    def remove_containers(self) -> None:
        """Let no test see what another has left."""
        with self.client() as client:
            for container in client.api.containers(all=True):
                with suppress(docker.errors.NotFound):
                    client.api.remove_container(container["Id"], v=True, force=True)

    def _end_all(self) -> None:
        """Containers first: they are children of shims, and would outlive all the rest."""
        with suppress(AssertionError, docker.errors.DockerException, requests.RequestException):
            self.free_disk()
            self.start()
            self.remove_containers()
            self.end(signal.SIGTERM)
        for _ in range(100):
            pids = _run("ip", "netns", "pids", self._namespace).split()
            mine = [int(pid) for pid in pids if int(pid) != os.getpid()]
            if not mine:
                return
            for pid in mine:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


class _Client(docker.DockerClient):
    """A client that closes itself."""

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__(base_url=url, timeout=int(seconds), version="1.41")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _dockerd() -> str:
    unpacked = _UNPACKED / "sbin" / "dockerd"
    return str(unpacked) if unpacked.exists() else "dockerd"


class Tunnel:
    """A loopback port inside of a network namespace that leads to the same port outside.

    A socket belongs to the namespace of the thread that made it, whoever uses it.
    """

    def __init__(self, namespace: str, port: int) -> None:
        self._port = port
        self._is_cut = False
        self._open: set[socket.socket] = set()
        made: list[socket.socket] = []

        def listen() -> None:
            with Path(f"/var/run/netns/{namespace}").open("rb") as file:
                assert _LIBC.setns(file.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            made.append(socket.create_server(("127.0.0.1", port)))

        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
        (self._listener,) = made

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(self) -> None:
        """End all connections, and take no new ones."""
        self._is_cut = True
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def repair(self) -> None:
        """Take connections again."""
        self._is_cut = False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                inner, _ = self._listener.accept()
                if self._is_cut:
                    inner.close()
                    continue
                threading.Thread(target=self._serve, args=(inner,), daemon=True).start()

    def _serve(self, inner: socket.socket) -> None:
        with inner, suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as outer:
            self._open |= {inner, outer}
            back = threading.Thread(target=_pump, args=(outer, inner), daemon=True)
            back.start()
            _pump(inner, outer)
            back.join()
            self._open -= {inner, outer}


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def is_alive(pid: int) -> bool:
    """Whether a process lives; one that is only not waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def _wait(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)
