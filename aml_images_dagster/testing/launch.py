"""Launch of a job in containers: nodes, commands and files.

Layout inside a container (below `C:` on Windows):

| folder | what it holds |
|---|---|
| `/aml-images/code` | a writable copy of the scenario's files; the working directory |
| `/aml-images/outputs` | writable; `AML_IMAGES_OUTPUTS` names it |
| `/aml-images/launch` | what the way to launch brings along |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from aml_images_dagster.testing.archive import Archive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aml_images_dagster.engine.interface import OperatingSystem
    from aml_images_dagster.testing.interface import TestJob


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
