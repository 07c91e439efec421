"""A training script under MPI: mpirun on node0 starts the ranks of the other nodes over ssh.

Azure ML builds the mpirun command itself and asks of an image that it has ssh and an MPI library
(https://learn.microsoft.com/azure/machine-learning/how-to-train-distributed-gpu); so does this. The shell
scripts under `launchers/` say in detail what happens on each node.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput
from aml_images_dagster.testing.launch import Launch, Node, inside, job_files

if TYPE_CHECKING:
    from aml_images_dagster.catalog.tests_file import TrainingScenario
    from aml_images_dagster.testing.interface import TestJob

_LAUNCHERS = ("mpi_head.sh", "mpi_worker.sh", "ssh_config", "sshd_config")
_MASTER_PORT = 6000  # as in the example of Azure Batch's documentation of AZ_BATCH_MASTER_NODE


def launch(job: TestJob, scenario: TrainingScenario) -> Launch:
    """Workers that run sshd, and node0 that runs mpirun; the job ends when mpirun ends.

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
        "AZ_BATCH_MASTER_NODE": f"{hosts[0]}:{_MASTER_PORT}",
    }
    head = ("sh", inside(job.os, "launch", "mpi_head.sh"), "python", scenario.script)
    worker = ("sh", inside(job.os, "launch", "mpi_worker.sh"))
    archive = job_files(job)
    archive.add_folder("aml-images/launch", writable=False)
    for name in _LAUNCHERS:
        script = files("aml_images_dagster.testing").joinpath("launchers", name)
        archive.add_file(f"aml-images/launch/{name}", script.read_bytes())
    return Launch(
        nodes=tuple(Node(host, worker if index else head, environment) for index, host in enumerate(hosts)),
        files=archive.finish(),
        leader=hosts[0],
        user="0",
        shared_folder=inside(job.os, "keys"),
    )
