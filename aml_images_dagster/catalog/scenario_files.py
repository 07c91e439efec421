"""Which files of the repository a scenario runs on."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.tests_file import PytestScenario, Scenario
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.catalog.tree import Tree


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
