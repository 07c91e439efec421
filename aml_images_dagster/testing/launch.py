"""Launch of a job in containers: nodes, commands and files; training scripts under MPI and with PyTorch's variables.

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
from importlib.resources import files
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from aml_images_dagster.catalog.tests_file import TrainingScenario
    from aml_images_dagster.engine.interface import OperatingSystem
    from aml_images_dagster.testing.interface import TestJob

_TEMPORARY = {"__pycache__", ".pytest_cache"}
_MPI_LAUNCHERS = ("mpi_head.sh", "mpi_worker.sh", "ssh_config", "sshd_config")
_BATCH_MASTER_PORT = 6000  # as in the example of Azure Batch's documentation of AZ_BATCH_MASTER_NODE
_MASTER_PORT = 29500
_TORCH_LAUNCHER = "torch_node.sh"


class Archive:
    """A tar file in memory whose entries belong to root, or to the administrator on Windows."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add_folder(self, name: str, *, writable: bool = True) -> None:
        """Add a folder that all users may write to, or only root."""
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


@dataclass(frozen=True, slots=True)
class Limits:
    """What one container may use.

    Attributes:
        memory_bytes: Memory without swap.
        shared_memory_bytes: Size of /dev/shm; part of the memory. Linux only.
        processes: Number of processes and threads. Linux only.
        log_characters: How much of a node's output a result keeps; the log that is streamed is whole.
    """

    memory_bytes: int = 8 * 2**30
    shared_memory_bytes: int = 2 * 2**30
    processes: int = 4096
    log_characters: int = 1_000_000


def mpi_launch(job: TestJob, scenario: TrainingScenario) -> Launch:
    """A training script under MPI: workers that run sshd, and node0 that runs mpirun; the job ends when mpirun ends.

    Azure ML builds the mpirun command itself and asks of an image that it has ssh and an MPI library
    (https://learn.microsoft.com/azure/machine-learning/how-to-train-distributed-gpu); so does this. The shell scripts
    under `launchers/` say in detail what happens on each node.

    Raises:
        BadInput: The image is a Windows image.
    """
    if job.os == "windows":
        raise BadInput(
            f"scenario {scenario.name!r} asks for MPI, which runs in Linux images only",
            where=job.image,
            hint='Remove "distribution": "mpi" from the scenario, or the scenario from the image.',
        )
    hosts = [f"node{index}" for index in range(scenario.nodes)]
    environment = {
        "AML_IMAGES_HOSTS": " ".join(hosts),
        "AML_IMAGES_PROCESSES_PER_NODE": str(scenario.processes_per_node),
        "AZUREML_NODE_COUNT": str(scenario.nodes),
        "AZ_BATCH_MASTER_NODE": f"{hosts[0]}:{_BATCH_MASTER_PORT}",
    }
    head = ("sh", inside(job.os, "launch", "mpi_head.sh"), "python", scenario.script)
    worker = ("sh", inside(job.os, "launch", "mpi_worker.sh"))
    archive = job_files(job)
    _add_launchers(archive, *_MPI_LAUNCHERS)
    return Launch(
        nodes=tuple(Node(host, worker if index else head, environment) for index, host in enumerate(hosts)),
        files=archive.finish(),
        leader=hosts[0],
        user="0",
        shared_folder=inside(job.os, "keys"),
    )


def torch_launch(job: TestJob, scenario: TrainingScenario) -> Launch:
    """A training script with PyTorch's rank variables: a container per node, in it a process per local rank.

    The variables are those that PyTorch's `env://` initialisation reads and that Azure ML sets
    (https://learn.microsoft.com/azure/machine-learning/how-to-train-distributed-gpu). The job ends when all ranks have
    ended.

    Raises:
        BadInput: Several processes per node are asked for in a Windows image.
    """
    command: tuple[str, ...] = ("python", scenario.script)
    archive = job_files(job)
    if scenario.processes_per_node > 1:
        if job.os == "windows":
            raise BadInput(
                f"scenario {scenario.name!r} asks for several processes per node, which needs a Linux image",
                where=job.image,
                hint='Set "processes_per_node" to 1.',
            )
        command = ("sh", inside(job.os, "launch", _TORCH_LAUNCHER), *command)
        _add_launchers(archive, _TORCH_LAUNCHER)
    nodes = tuple(Node(f"node{number}", command, _rank_variables(scenario, number)) for number in range(scenario.nodes))
    return Launch(nodes, archive.finish())


def _add_launchers(archive: Archive, *names: str) -> None:
    archive.add_folder("aml-images/launch", writable=False)
    for name in names:
        script = files("aml_images_dagster.testing").joinpath("launchers", name)
        archive.add_file(f"aml-images/launch/{name}", script.read_bytes())


def _rank_variables(scenario: TrainingScenario, node: int) -> dict[str, str]:
    """The variables of a node's first process; the launcher counts on for the others."""
    return {
        "RANK": str(node * scenario.processes_per_node),
        "WORLD_SIZE": str(scenario.nodes * scenario.processes_per_node),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": str(scenario.processes_per_node),
        "NODE_RANK": str(node),
        "MASTER_ADDR": "node0",
        "MASTER_PORT": str(_MASTER_PORT),
        "AZUREML_NODE_COUNT": str(scenario.nodes),
    }
