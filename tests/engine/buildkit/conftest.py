"""A program in the place of buildx, for what the real one can't be made to do on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VERSION = 'case $1 in version) echo "github.com/docker/buildx v0.13.1 abc";;'
INSPECTION = """inspect) cat <<END
Name:   default
Driver: docker

Nodes:
Name:             default
Endpoint:         default
Status:           running
BuildKit version: v0.0.0+unknown
Platforms:        linux/amd64*, linux/arm64
Labels:
 org.mobyproject.buildkit.worker.containerd.uuid: 1
END
;;"""


@pytest.fixture
def fake_buildx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a shell script in the place of buildx."""

    def install(script: str) -> Path:
        program = tmp_path / "docker" / "cli-plugins" / "docker-buildx"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        return program

    return install
