"""A training script in one process on one node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.testing.launch import Launch, Node, job_files

if TYPE_CHECKING:
    from aml_images_dagster.catalog.tests_file import TrainingScenario
    from aml_images_dagster.testing.interface import TestJob


def launch(job: TestJob, scenario: TrainingScenario) -> Launch:
    """`python SCRIPT`, with the python that the image has on its PATH."""
    node = Node("node0", ("python", scenario.script))
    return Launch((node,), job_files(job).finish())
