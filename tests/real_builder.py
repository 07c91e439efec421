"""Asks the engine's BuildKit what it does with a Dockerfile, without the factory in between."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.engine.buildkit.buildx import Buildx

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 120


class RealBuilder:
    """BuildKit of the engine, through buildx."""

    def __init__(self) -> None:
        self._buildx = Buildx()

    def refusal(self, text: str, files: Mapping[str, str], links: Mapping[str, str], *, runs: bool = False) -> str:
        """Why it refuses a Dockerfile; empty when it builds it.

        Args:
            text: The Dockerfile.
            files: Names of the files of the context, and their content.
            links: Names of symbolic links, and where they lead.
            runs: Build; else the Dockerfile is only made into the steps of a build.
        """
        with tempfile.TemporaryDirectory() as folder:
            context = Path(folder) / "context"
            write(context, files, links)
            dockerfile = Path(folder) / "Dockerfile"
            dockerfile.write_bytes(text.encode())
            arguments = ["--progress=plain", "--output=type=cacheonly", f"--file={dockerfile}"]
            if not runs:
                arguments.append("--print=outline")
            done = subprocess.run(
                [*self._buildx.command(*arguments), str(context)],
                env=self._buildx.environment(Path(folder), {"BUILDX_EXPERIMENTAL": "1"}),
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        return "" if done.returncode == 0 else done.stderr.rpartition("ERROR:")[2].strip() or "refused"


def write(folder: Path, files: Mapping[str, str], links: Mapping[str, str]) -> None:
    """Write files and symbolic links."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for name, target in links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
