"""A training script with PyTorch's rank variables: a container per node, in it a process per local rank.

The variables are those that PyTorch's `env://` initialisation reads and that Azure ML sets
(https://learn.microsoft.com/azure/machine-learning/how-to-train-distributed-gpu).
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput
from aml_images_dagster.testing.launch import Launch, Node, inside, job_files

if TYPE_CHECKING:
    from aml_images_dagster.catalog.tests_file import TrainingScenario
    from aml_images_dagster.testing.interface import TestJob

MASTER_PORT = 29500
_LAUNCHER = "torch_node.sh"


def launch(job: TestJob, scenario: TrainingScenario) -> Launch:
    """`python SCRIPT` once per rank; the job ends when all ranks have ended.

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
        command = ("sh", inside(job.os, "launch", _LAUNCHER), *command)
        archive.add_folder("aml-images/launch", writable=False)
        script = files("aml_images_dagster.testing").joinpath("launchers", _LAUNCHER)
        archive.add_file(f"aml-images/launch/{_LAUNCHER}", script.read_bytes())
    nodes = tuple(Node(f"node{number}", command, _environment(scenario, number)) for number in range(scenario.nodes))
    return Launch(nodes, archive.finish())


def _environment(scenario: TrainingScenario, node: int) -> dict[str, str]:
    """The variables of a node's first process; the launcher counts on for the others."""
    return {
        "RANK": str(node * scenario.processes_per_node),
        "WORLD_SIZE": str(scenario.nodes * scenario.processes_per_node),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": str(scenario.processes_per_node),
        "NODE_RANK": str(node),
        "MASTER_ADDR": "node0",
        "MASTER_PORT": str(MASTER_PORT),
        "AZUREML_NODE_COUNT": str(scenario.nodes),
    }
