"""`tests.json`: the scenarios that an image has to pass, on which compute, and with which files of the repository."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import override

from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.catalog.validated_file import StrictModel
from aml_images_dagster.errors import BadInput
from aml_images_dagster.messages import form

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from aml_images_dagster.catalog.tree import Tree

_SCENARIO_NAME = form(
    r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", "lower-case letters, digits and inner hyphens, at most 40 characters"
)
ScenarioName = Annotated[str, Field(pattern=_SCENARIO_NAME)]


def _stays_below(path: str) -> str:
    if path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/"):
        raise ValueError("write a path without a leading /, without .. and with / between the folders")
    return path


RelativePath = Annotated[str, Field(min_length=1), AfterValidator(_stays_below)]


_NO_DISTRIBUTION = 'more than one process needs "distribution": "mpi" or "pytorch"'


class TrainingScenario(StrictModel):
    """A script that is run as a training job in the staged image."""

    name: ScenarioName = Field(description="Unique in the file; part of the job's name.")
    kind: Literal["training"]
    script: RelativePath = Field(
        description="Python file (.py), relative to base_images/tests; run with python. It must be self-contained."
    )
    nodes: int = Field(default=1, ge=1, le=64, description="Number of machines.")
    distribution: Literal["mpi", "pytorch"] | None = Field(
        default=None,
        description="How processes find each other: mpi starts them with mpirun, pytorch sets RANK and the like.",
    )
    processes_per_node: int = Field(default=1, ge=1, le=64, description="Processes on each machine.")

    @model_validator(mode="after")
    def _several_processes_need_a_distribution(self) -> TrainingScenario:
        if self.distribution is None and self.nodes * self.processes_per_node > 1:
            raise ValueError(_NO_DISTRIBUTION)
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
        for fault in _not_unique([scenario.name for scenario in self.scenarios]):
            raise fault
        return self

    @classmethod
    @override
    def further_errors(cls, data: Any) -> list[ErrorDetails]:
        """Those of a scenario whose kind is wrong, and those that are looked for in scenarios without errors only."""
        scenarios = data.get("scenarios") if isinstance(data, dict) else None
        found: list[ErrorDetails] = []
        names: list[str] = []
        for index, scenario in enumerate(scenarios if isinstance(scenarios, list) else ()):
            name = scenario.get("name") if isinstance(scenario, dict) else None
            names.append(name.strip() if isinstance(name, str) else "")
            if isinstance(scenario, dict):
                found += [{**error, "loc": ("scenarios", index, *error["loc"])} for error in _errors_in(scenario)]
        for fault in _not_unique(names):
            ctx = fault.context or {}
            found.append({"type": fault.type, "loc": (), "msg": fault.message(), "input": data, "ctx": ctx})
        return found


def _not_unique(names: list[str]) -> Iterator[PydanticCustomError]:
    """What is wrong with names that another scenario before has; empty names are none."""
    firsts: dict[str, int] = {}
    for index, name in enumerate(names):
        first = firsts.setdefault(name, index)
        if name and first < index:
            told = {"first": first, "name": name, "below": ("scenarios", index, "name")}
            yield PydanticCustomError("not_unique", 'must be unique; scenarios[{first}] is named "{name}", too', told)


def _errors_in(scenario: dict[str, Any]) -> list[ErrorDetails]:
    kind = scenario.get("kind")
    is_pytest = kind == "pytest" or (kind != "training" and "path" in scenario and "script" not in scenario)
    model: type[StrictModel] = PytestScenario if is_pytest else TrainingScenario
    found: list[ErrorDetails] = []
    if kind not in ("pytest", "training"):
        try:
            model.model_validate({**scenario, "kind": "pytest" if is_pytest else "training"}, strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False)
    counts = [scenario.get(key, 1) for key in ("nodes", "processes_per_node")]
    if not is_pytest and not scenario.get("distribution") and any(type(n) is int and 1 < n <= 64 for n in counts):
        found.append(_error(_NO_DISTRIBUTION, scenario))
    return found


def _error(message: str, value: object) -> ErrorDetails:
    return {"type": "value_error", "loc": (), "msg": message, "input": value}


def scenario_path(scenario: Scenario, tests_path: str) -> str:
    """The script, test file or test folder that a scenario names, relative to the repository."""
    if isinstance(scenario, PytestScenario):
        return str(PurePosixPath(scenario.path))
    return str(PurePosixPath(tests_path) / scenario.script)


def scenario_uses(scenario: Scenario, path: str, tests_path: str) -> bool:
    """Whether a file of the repository, which may be deleted by now, takes part in a scenario.

    A training script stands alone. For pytest it is what the scenario names, and every conftest.py that pytest
    reads on its way there: those of the folders above.
    """
    named = scenario_path(scenario, tests_path)
    if path == named:
        return True
    if not isinstance(scenario, PytestScenario):
        return False
    folder, _, name = path.rpartition("/")
    is_above = not folder or named.startswith(f"{folder}/")
    return path.startswith(f"{named}/") or named == "." or (name == "conftest.py" and is_above)


def scenario_files(tree: Tree, scenario: Scenario, tests_path: str) -> tuple[str, ...]:
    """The files of a scenario, sorted.

    Args:
        tree: The source.
        scenario: One entry of a tests.json.
        tests_path: Folder of the training scripts, relative to the repository.

    Raises:
        BadInput: What the scenario names does not exist.
    """
    files = tuple(path for path in tree.files() if scenario_uses(scenario, path, tests_path))
    named = scenario_path(scenario, tests_path)
    if not any(path == named or path.startswith(f"{named}/") or named == "." for path in files):
        raise BadInput(
            f"scenario {scenario.name!r} runs {named}, which does not exist",
            where=named,
            hint="Correct tests.json, or add the file (git must know it, or not ignore it).",
        )
    return files


def lay_out(tree: Tree, scenario: Scenario, tests_path: str, folder: Path) -> None:
    """Write the files of a scenario below a folder.

    A training script goes where it is below `tests_path`, tests go where they are in the repository.

    Raises:
        BadInput: What the scenario names does not exist, or is a symbolic link.
    """
    strip = "" if isinstance(scenario, PytestScenario) else f"{PurePosixPath(tests_path)}/"
    files = tree.files()
    for path, content in tree.read_many(scenario_files(tree, scenario, tests_path)):
        mode = files[path].mode
        if mode is FileMode.SYMLINK:
            raise BadInput(
                "test code cannot be a symbolic link", where=path, hint="Put the file itself into the repository."
            )
        target = folder / path.removeprefix(strip)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o755 if mode is FileMode.EXECUTABLE else 0o644)
