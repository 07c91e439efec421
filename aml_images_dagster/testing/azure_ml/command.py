"""A scenario as a command job of Azure ML: which command, on which image, with which files.

How the service starts the processes of a distributed job, and which variables they get, is described at
https://learn.microsoft.com/azure/machine-learning/how-to-train-distributed-gpu; `testing/launch.py` does
the same on one engine.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.tests_file import PytestScenario
from aml_images_dagster.errors import BadInput
from aml_images_dagster.testing import pytest_scenario

if TYPE_CHECKING:
    from pathlib import Path

    from azure.ai.ml import MpiDistribution, PyTorchDistribution
    from azure.ai.ml.entities import Command

    from aml_images_dagster.testing.interface import TestJob


def build_key(build: str) -> str:
    """The key that all jobs of a build have, and no others."""
    return f"aml-images-{re.sub(r'[^A-Za-z0-9]', '-', build)}"


def image_key(build: str, image: str) -> str:
    """The key that all jobs of one image of a build have, and no others."""
    return f"{build_key(build)}-{hashlib.sha256(image.encode()).hexdigest()[:8]}"


def tags(job: TestJob) -> dict[str, str]:
    """The tags of a job: four for people, two to be found by."""
    return {
        "build": job.build,
        "image": job.image,
        "scenario": job.scenario.name,
        "commit": job.commit or "unknown",
        build_key(job.build): "build",
        image_key(job.build, job.image): "image",
    }


_OUTPUTS = "outputs"
"""A folder beside the code that the service makes, and keeps with the job."""
_PACKAGES = "aml-images-packages"
_SPARE_SECONDS = 900
"""The service ends a job whose factory has died this much later than the factory would have done it."""


def command_job(job: TestJob, environment: str, compute: str, folder: Path) -> Command:
    """The job, ready to be submitted.

    Args:
        job: What to run.
        environment: ID of the environment that has the image.
        compute: Name of the compute target.
        folder: An empty folder for the files of the job.

    Raises:
        BadInput: The scenario cannot run in an image of this operating system.
    """
    from azure.ai.ml import command

    shutil.copytree(job.code, folder, dirs_exist_ok=True)
    # What travels is what the scenario names, whatever a .gitignore among it says.
    (folder / ".amlignore").touch()
    variables = {
        "AML_IMAGES_BUILD": job.build,
        "AML_IMAGES_IMAGE": job.image,
        "AML_IMAGES_SCENARIO": job.scenario.name,
        "AML_IMAGES_OUTPUTS": _OUTPUTS,
        "PYTHONUNBUFFERED": "1",
    }
    nodes = 1
    if isinstance(job.scenario, PytestScenario):
        pytest_scenario.write_packages(folder / _PACKAGES)
        arguments = pytest_scenario.arguments(job.os, job.scenario, root=".", report=f"{_OUTPUTS}/pytest.xml")
        variables |= pytest_scenario.environment(_PACKAGES)
    else:
        nodes = job.scenario.nodes
        arguments = ("python", job.scenario.script)
    submitted = command(
        name=job.name,
        display_name=f"{job.image} {job.scenario.name}",
        experiment_name=experiment(job.build),
        environment=environment,
        code=folder,
        command=shlex.join(arguments),
        environment_variables=variables,
        compute=compute,
        instance_count=nodes,
        distribution=_distribution(job),
        timeout=int(job.timeout_seconds + _SPARE_SECONDS),
        tags=tags(job),
        # The SDK asks git in the current folder unless it finds this, and would send the URL of the remote along.
        properties={"mlflow.source.git.commit": job.commit or "unknown"},
    )
    submitted.name = job.name
    return submitted


def experiment(build: str) -> str:
    """The experiment of all jobs of a day.

    Args:
        build: The build's number, which begins with the day.
    """
    return f"aml-images-{build[:8]}"


def _distribution(job: TestJob) -> MpiDistribution | PyTorchDistribution | None:
    from azure.ai.ml import MpiDistribution, PyTorchDistribution

    scenario = job.scenario
    if isinstance(scenario, PytestScenario) or scenario.distribution is None:
        return None
    if scenario.distribution == "pytorch":
        return PyTorchDistribution(process_count_per_instance=scenario.processes_per_node)
    if job.os == "windows":
        raise BadInput(
            f"scenario {scenario.name!r} asks for MPI, which runs in Linux images only",
            where=job.image,
            hint='Remove "distribution": "mpi" from the scenario, or the scenario from the image.',
        )
    return MpiDistribution(process_count_per_instance=scenario.processes_per_node)
