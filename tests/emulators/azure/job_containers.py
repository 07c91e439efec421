"""Jobs that really run: the image of the job's environment, a container per node, on this machine's engine.

The ways to launch are those of the local runner, which do on one engine what Azure ML does on a cluster; the command,
the variables, the files, the image and the number of nodes are what the SDK has sent.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.tests_file import TrainingScenario
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.testing import leftovers
from aml_images_dagster.testing.container_job import ContainerJob
from aml_images_dagster.testing.containers import launch_of
from aml_images_dagster.testing.docker_connection import connected
from aml_images_dagster.testing.interface import TestJob
from aml_images_dagster.testing.launch import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aml_images_dagster.engine.interface import RegistryLogin
    from tests.emulators.azure.machine_learning import EmulatedJob

BUILD = "emulated-azure-ml"
"""The label of all its containers, so that nobody takes them for those of the local runner."""


class JobContainers:
    """An executor.

    Args:
        login: With what the workspace pulls images; None pulls without a name.
    """

    def __init__(self, login: Callable[[], RegistryLogin | None] = lambda: None) -> None:
        self._login = login

    def execute(self, job: EmulatedJob) -> tuple[bool, Mapping[str, bytes]]:
        """See `Executor.execute`."""
        job.status = "Preparing"
        engine = DockerEngine()
        image = engine.pull(job.image, lambda _: None, self._login())
        with tempfile.TemporaryDirectory() as folder, connected(None) as client:
            for path, content in job.code.items():
                target = Path(folder, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            Path(folder, "outputs").mkdir(exist_ok=True)
            local = self._local(job, Path(folder))
            launch = launch_of(local)
            # Every way to launch ends with the program and the script; here it is what the SDK has sent.
            shell = ("sh", "-c", job.properties["command"])
            sent = {**(job.properties.get("environmentVariables") or {}), "AZUREML_RUN_ID": job.name}
            nodes = tuple(
                replace(node, command=(*node.command[:-2], *shell) if node.command[-2] == "python" else node.command,
                        environment={**node.environment, **sent})
                for node in launch.nodes
            )  # fmt: skip
            running = ContainerJob(
                client,
                local,
                replace(launch, nodes=nodes),
                image,
                Limits(),
                engine.info().network_mtu,
                lambda _: None,
                engine.read_file,
            )
            over = threading.Event()
            threading.Thread(target=_end_when_told, args=(job, over), daemon=True).start()
            try:
                if not job.stop.is_set():
                    job.status, job.started = "Running", datetime.now(UTC)
                result = running.run()
            finally:
                over.set()
                leftovers.remove(client, leftovers.JOB, job.name)
        several = len(result.logs) > 1
        names = [f"std_log_process_{number}" if several else "std_log" for number in range(len(result.logs))]
        logs = {f"user_logs/{name}.txt": log.text.encode() for name, log in zip(names, result.logs, strict=True)}
        return result.status == "passed", logs

    def _local(self, job: EmulatedJob, code: Path) -> TestJob:
        distribution = job.properties.get("distribution") or {}
        kind = {"Mpi": "mpi", "PyTorch": "pytorch"}.get(distribution.get("distributionType", ""))
        scenario = TrainingScenario.model_validate(
            {
                "name": "emulated",
                "kind": "training",
                "script": "unused",
                "nodes": job.nodes,
                "distribution": kind,
                "processes_per_node": distribution.get("processCountPerInstance") or 1,
            }
        )
        return TestJob(job.name, BUILD, "emulated/azure-ml", job.image, "linux", scenario, code, 600)


def _end_when_told(job: EmulatedJob, over: threading.Event) -> None:
    """Remove the containers when the job is to be stopped; again and again, because they may be on their way."""
    while not over.wait(0.1):
        if job.stop.is_set():
            with connected(None) as client:
                leftovers.remove(client, leftovers.JOB, job.name)
