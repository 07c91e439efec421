"""`tests.json`: the scenarios that an image has to pass, and on which compute."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from aml_images_dagster.catalog.model_file import StrictModel

ScenarioName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


def _stays_below(path: str) -> str:
    if path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/"):
        raise ValueError("write a path without a leading /, without .. and with / between the folders")
    return path


RelativePath = Annotated[str, Field(min_length=1), AfterValidator(_stays_below)]


class TrainingScenario(StrictModel):
    """A script that is run as a training job in the staged image."""

    name: ScenarioName = Field(description="Unique in the file; part of the job's name.")
    kind: Literal["training"]
    script: RelativePath = Field(description="Python script, relative to base_images/tests. It must be self-contained.")
    nodes: int = Field(default=1, ge=1, le=64, description="Number of machines.")
    distribution: Literal["mpi", "pytorch"] | None = Field(
        default=None,
        description="How processes find each other: mpi starts them with mpirun, pytorch sets RANK and the like.",
    )
    processes_per_node: int = Field(default=1, ge=1, le=64, description="Processes on each machine.")

    @model_validator(mode="after")
    def _several_processes_need_a_distribution(self) -> TrainingScenario:
        if self.distribution is None and self.nodes * self.processes_per_node > 1:
            raise ValueError('more than one process needs "distribution": "mpi" or "pytorch"')
        return self


class PytestScenario(StrictModel):
    """Tests that pytest runs inside a container of the staged image."""

    name: ScenarioName = Field(description="Unique in the file; part of the job's name.")
    kind: Literal["pytest"]
    path: RelativePath = Field(description="A test file or folder, relative to the repository.")


Scenario = Annotated[TrainingScenario | PytestScenario, Field(discriminator="kind")]


class TestPlan(StrictModel):
    """The whole of a tests.json."""

    __test__ = False

    scenarios: tuple[Scenario, ...] = Field(min_length=1)
    compute: str = Field(default="", description="Name of the compute target; default: that of the profile.")
    timeout_minutes: float = Field(default=90, gt=0, le=1440, description="Time limit of one scenario, in minutes.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> TestPlan:
        names = [scenario.name for scenario in self.scenarios]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"scenario names must be unique, found twice: {', '.join(twice)}")
        return self
