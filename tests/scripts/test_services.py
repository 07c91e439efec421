"""`scripts/services` with an engine and registries that only answer: what it starts, and what it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = Path(__file__).parents[2] / "scripts"
SERVICES = ("dockerd", "staging-registry", "production-registry")

DOCKERD = """#!{python}
import pathlib, signal, sys
answers = pathlib.Path({root!r}, "engine")
signal.signal(signal.SIGTERM, lambda *_: (answers.unlink(), sys.exit()))
answers.touch()
while True: signal.pause()
"""
REGISTRY = """#!{python}
import re, socket, sys
host, port = re.search(r'addr: "(.*):(.*)"', open(sys.argv[2]).read()).groups()
listener = socket.create_server((host, int(port)))
while True: listener.accept()[0].close()
"""
CURL = """#!/usr/bin/env bash
address=${@: -1} address=${address#http://} address=${address%%/*}
exec 2>/dev/null 3<>"/dev/tcp/${address%:*}/${address##*:}"
"""


class Clone:
    """A folder with the scripts alone, and programs that stand for those of Debian."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(SCRIPTS, root / "scripts")
        programs = {
            "docker": f'#!/bin/sh\n[ -e "{root}/engine" ]\n',
            "dockerd": DOCKERD.format(python=sys.executable, root=str(root)),
            "docker-registry": REGISTRY.format(python=sys.executable),
            "curl": CURL,
            "iptables": "#!/bin/sh\n",
            "mountpoint": "#!/bin/sh\n",
        }
        (root / "bin").mkdir()
        for name, text in programs.items():
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        self.ports = [free_port(), free_port()]
        (root / ".env").write_text(
            f'AML_IMAGES_STAGING_REGISTRY="127.0.0.1:{self.ports[0]}"  # ours\n'
            f"export AML_IMAGES_PRODUCTION_REGISTRY = 127.0.0.1:{self.ports[1]} # ours\n"
        )

    def services(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AML_IMAGES_")}
        return subprocess.run(
            # An earlier test of this process may have left a signal ignored, which children inherit.
            ["env", "--default-signal", self.root / "scripts" / "services", *arguments],
            env=clean | {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def record(self, service: str) -> Path:
        return self.root / ".aml-images" / f"{service}.process"

    def process(self, service: str) -> int:
        return int(self.record(service).read_text().split()[0])

    @property
    def answers(self) -> list[bool]:
        """Whether engine and registries answer."""
        return [(self.root / "engine").exists(), *map(listens, self.ports)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    clone = Clone(tmp_path)
    yield clone
    for service in SERVICES:
        with suppress(FileNotFoundError, ProcessLookupError, IndexError):  # of one that ended at once nothing is known
            os.kill(clone.process(service), signal.SIGKILL)


def test_what_was_started_at_the_addresses_of_the_settings_is_ended(clone: Clone) -> None:
    started = clone.services()
    assert (started.returncode, started.stderr) == (0, "")
    assert clone.answers == [True, True, True]
    assert clone.services().stdout == "", "what answers is used as it is"
    stopped = clone.services("stop")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert stopped.stdout.count("End the ") == 3
    assert clone.answers == [False, False, False]
    assert clone.services("stop").stdout == ""
    assert clone.services().returncode == 0
    assert clone.answers == [True, True, True]


def test_what_answered_before_is_left_running_and_named(clone: Clone) -> None:
    (clone.root / "engine").touch()
    assert clone.services().returncode == 0
    stopped = clone.services("stop")
    assert stopped.returncode == 0
    assert "The Docker engine was not started here, and is left running" in stopped.stdout
    assert clone.answers == [True, False, False]


def test_a_service_that_ends_says_why(clone: Clone) -> None:
    (clone.root / "bin/dockerd").write_text(
        "#!/bin/sh\necho starting\necho failed to start daemon: no room >&2\nexit 1\n"
    )
    failed = clone.services()
    assert failed.returncode == 2
    log = clone.root / ".aml-images/dockerd.log"
    assert f"the engine has ended; the last line of {log}: failed to start daemon: no room" in failed.stderr


def test_another_process_that_has_the_number_of_one_that_was_started_is_not_ended(clone: Clone) -> None:
    (clone.root / "engine").touch()
    assert clone.services().returncode == 0
    number = clone.process("staging-registry")
    pid, started, boot = clone.record("staging-registry").read_text().split()
    clone.record("staging-registry").write_text(f"{pid} {int(started) - 1} {boot}\n")
    assert "registry staging at 127.0.0.1" in clone.services("stop").stdout
    assert clone.answers == [True, True, False]
    os.kill(number, signal.SIGKILL)


def test_a_service_that_was_killed_is_started_again(clone: Clone) -> None:
    (clone.root / "engine").touch()
    assert clone.services().returncode == 0
    os.kill(clone.process("production-registry"), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while listens(clone.ports[1]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert clone.services().stdout.count("Registry production") == 1
    assert clone.answers == [True, True, True]
    assert clone.services("stop").returncode == 0
    assert clone.answers == [True, False, False]


def test_a_registry_elsewhere_is_not_started(clone: Clone) -> None:
    (clone.root / "engine").touch()
    done = clone.services(AML_IMAGES_STAGING_REGISTRY="registry.invalid:5000")
    assert done.returncode == 0
    assert "registry.invalid:5000 is not on this machine" in done.stdout
    assert clone.answers == [True, False, True]


def test_the_settings_are_those_of_the_repository_of_image_folders(clone: Clone) -> None:
    (clone.root / "engine").touch()
    other, port = clone.root / "other", free_port()
    other.mkdir()
    (other / ".env").write_text(
        f"AML_IMAGES_STAGING_REGISTRY='127.0.0.1:{port}'\nAML_IMAGES_PRODUCTION_REGISTRY=127.0.0.1:{clone.ports[1]}\n"
    )
    assert clone.services(AML_IMAGES_REPO=str(other)).returncode == 0
    assert listens(port)
    assert clone.answers == [True, False, True]


def test_what_it_cannot_do_is_misuse(clone: Clone) -> None:
    done = clone.services("restart")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: scripts/services cannot restart; scripts/services --help shows its usage\n"
    shown = clone.services("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Usage: scripts/services [stop]" in shown.stdout
    assert clone.answers == [False, False, False]


APT_GET = """#!/usr/bin/env bash
suite=$(awk '{print $(NF-1)}' "$(dirname "$APT_CONFIG")/etc/sources.list")
case $1 in
  update) [[ " {served} " == *" $suite "* ]] ;;
  download) shift; for package; do [[ $package == -* ]] || echo "$suite" >"./$package.deb"; done ;;
esac
"""
DPKG_DEB = """#!/usr/bin/env bash
suite=$(cat "$2") plugins=$3/usr/libexec/docker/cli-plugins
case $2 in
  *docker-buildx*) mkdir -p "$plugins"; program=$plugins/docker-buildx
    case $suite in trixie) version=0.13.1+ds1 ;; *) version={version} ;; esac
    printf '#!/bin/sh\\n[ %s != none ] && echo github.com/docker/buildx %s\\n' $version $version >"$program" ;;
  *) mkdir -p "$3/usr/sbin" "$3/usr/bin"; program=$3/usr/sbin/dockerd; echo >"$program" ;;
esac
chmod +x "$program"
"""
DOCKER = """#!/bin/sh
case $1 in buildx) exec "$DOCKER_CONFIG/cli-plugins/docker-buildx" version ;; esac
"""


@pytest.mark.parametrize(
    ("served", "version", "taken", "said"),
    [
        ("trixie testing", "0.29.1+ds1", "0.29.1", "buildx 0.29.1+ds1, of Debian testing"),
        ("trixie testing", "none", "0.13.1", "buildx 0.13.1+ds1, of Debian 13"),  # it needs a newer Debian
        ("trixie testing", "0.21.3", "0.13.1", "buildx 0.13.1+ds1, of Debian 13"),
        ("trixie", "", "0.13.1", "buildx 0.13.1+ds1, of Debian 13"),
    ],
)
def test_debian_12_gets_the_buildx_of_testing_if_it_is_there_and_runs(
    clone: Clone, served: str, version: str, taken: str, said: str
) -> None:
    services = clone.root / "scripts" / "services"
    (clone.root / "os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    text = services.read_text().replace("/etc/os-release", str(clone.root / "os-release"))
    services.write_text(text.replace("/etc/apt/sources.list ", f"{clone.root}/sources.list "))
    (clone.root / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n")
    texts = {"apt-get": APT_GET, "dpkg-deb": DPKG_DEB, "docker": DOCKER}
    for name, program in texts.items():
        filled = program.replace("{served}", served).replace("{version}", version or "none")
        (clone.root / "bin" / name).write_text(filled)
        (clone.root / "bin" / name).chmod(0o755)
    home = {"DOCKER_CONFIG": str(clone.root / "docker"), "XDG_CACHE_HOME": str(clone.root / "cache")}
    done = clone.services(**home)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout
    program = clone.root / "docker" / "cli-plugins" / "docker-buildx"
    assert f"buildx {taken}" in subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    assert "buildx" not in clone.services(**home).stdout, "it is there"
