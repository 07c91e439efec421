"""Every script: `--help` does nothing but say how it is used, and what it does not know is misuse."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPTS / name, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.iterdir() if path.suffix != ".sh"))
def test_help_is_all_that_is_done(name: str, option: str) -> None:
    shown = run(name, option)
    assert (shown.returncode, shown.stderr) == (0, "")
    first, *_, last = shown.stdout.splitlines()
    assert first[:1].isalpha()
    assert last.startswith(f"Usage: scripts/{name}")
    assert "==>" not in shown.stdout, "nothing was begun"


@pytest.mark.parametrize("base", ["nosuch", "--option", "debian:13", "x;reboot"])
def test_a_base_that_cannot_be_made_is_misuse(base: str) -> None:
    done = run("bases", "debian:12", base)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: scripts/bases knows debian:12, busybox and arm64v8/busybox, not {base}\n"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("verifiers", ["x"]),
        ("services", ["restart"]),
        ("services", ["stop", "now"]),
        ("ui", ["--port"]),
        ("ui", ["80", "70"]),
    ],
)
def test_an_argument_that_a_script_does_not_know_is_misuse(name: str, arguments: list[str]) -> None:
    done = run(name, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: scripts/{name} ")
    assert done.stderr.endswith(f"scripts/{name} --help shows its usage\n")
