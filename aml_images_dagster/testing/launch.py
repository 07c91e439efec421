"""Launch of a job in containers: nodes, commands and files.

Layout inside a container (below `C:` on Windows):

| folder | what it holds |
|---|---|
| `/aml-images/code` | a writable copy of the scenario's files; the working directory |
| `/aml-images/outputs` | writable; `AML_IMAGES_OUTPUTS` names it |
| `/aml-images/launch` | what the way to launch brings along |
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from aml_images_dagster.engine.interface import OperatingSystem
    from aml_images_dagster.testing.interface import TestJob


_TEMPORARY = {"__pycache__", ".pytest_cache"}


class Archive:
    """A tar file in memory whose entries belong to root, or to the administrator on Windows."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add_folder(self, name: str, *, writable: bool = True) -> None:
        """Add a folder that everybody may write to, or only root."""
        entry = tarfile.TarInfo(name)
        entry.type = tarfile.DIRTYPE
        entry.mode = 0o777 if writable else 0o755
        self._tar.addfile(entry)

    def add_file(self, name: str, content: bytes, *, executable: bool = False) -> None:
        """Add one file."""
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        entry.mode = 0o755 if executable else 0o644
        self._tar.addfile(entry, io.BytesIO(content))

    def add_tree(self, folder: Path, name: str) -> None:
        """Add a folder with all that is in it, without Python's caches."""
        self.add_folder(name)
        for path in sorted(folder.iterdir()):
            if path.name in _TEMPORARY:
                continue
            below = f"{name}/{path.name}"
            if path.is_dir() and not path.is_symlink():
                self.add_tree(path, below)
            else:
                self._add_leaf(path, below)

    def _add_leaf(self, path: Path, name: str) -> None:
        if path.is_symlink():
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.SYMTYPE
            entry.linkname = str(path.readlink())
            self._tar.addfile(entry)
        else:
            self.add_file(name, path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))

    def finish(self) -> bytes:
        """Close the archive and return its bytes."""
        self._tar.close()
        return self._buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Node:
    """One container of a job.

    Attributes:
        name: `node0`, `node1`, …; also its host name on the job's network.
        command: Program and arguments; replaces the image's ENTRYPOINT and CMD.
        environment: Variables that only this container gets.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Launch:
    """A job, ready to be started.

    Attributes:
        nodes: In the order in which they are started.
        files: A tar file that is unpacked at the root of every container.
        leader: Name of the node whose end is the job's end; empty when all nodes have to end.
        user: The user that runs the commands; empty for the image's own user.
        shared_folder: A folder that all containers of the job share, on the engine's side; empty for none.
        report: A file that a failed container may hold and that explains the failure; empty for none.
        explain: Turns an exit code and the report into a reason in one line.
    """

    nodes: tuple[Node, ...]
    files: bytes
    leader: str = ""
    user: str = ""
    shared_folder: str = ""
    report: str = ""
    explain: Callable[[int, bytes], str] | None = None


def inside(os: OperatingSystem, *parts: str) -> str:
    """An absolute path below the folder that belongs to the job in every container."""
    if os == "windows":
        return str(PureWindowsPath("C:/aml-images", *parts))
    return str(PurePosixPath("/aml-images", *parts))


def job_files(job: TestJob) -> Archive:
    """The files that every job needs: a copy of its code and a folder for outputs."""
    archive = Archive()
    archive.add_folder("aml-images", writable=False)
    archive.add_tree(job.code, "aml-images/code")
    archive.add_folder("aml-images/outputs")
    return archive


def job_environment(job: TestJob) -> dict[str, str]:
    """The variables that every container of a job gets."""
    return {
        "AML_IMAGES_BUILD": job.build,
        "AML_IMAGES_IMAGE": job.image,
        "AML_IMAGES_SCENARIO": job.scenario.name,
        "AML_IMAGES_OUTPUTS": inside(job.os, "outputs"),
        "PYTHONUNBUFFERED": "1",
    }
