"""What a scenario runs on, and how it is laid out for the job."""

from __future__ import annotations

import pytest

from aml_images_dagster.catalog.tests_file import (
    PytestScenario,
    TrainingScenario,
    lay_out,
    scenario_files,
    scenario_uses,
)
from aml_images_dagster.errors import BadInput

TESTS = "base_images/tests"


def training(script):
    return TrainingScenario(name="s", kind="training", script=script)


def pytests(path):
    return PytestScenario(name="s", kind="pytest", path=path)


@pytest.fixture
def tree(git_repository):
    git_repository.write("conftest.py")
    git_repository.write(f"{TESTS}/scripts/train.py", executable=True)
    git_repository.write(f"{TESTS}/scripts/other.py")
    git_repository.write(f"{TESTS}/conftest.py")
    git_repository.write(f"{TESTS}/contract/test_a.py")
    git_repository.write(f"{TESTS}/contract/data/x.json")
    git_repository.write(f"{TESTS}/contract/conftest.py")
    git_repository.write(f"{TESTS}/contract2/test_b.py")
    git_repository.write("unrelated/conftest.py")
    (git_repository.root / f"{TESTS}/link.py").symlink_to("scripts/train.py")
    return git_repository.tree()


def test_a_training_script_stands_alone(tree):
    assert scenario_files(tree, training("scripts/train.py"), TESTS) == (f"{TESTS}/scripts/train.py",)
    assert scenario_files(tree, training("./scripts//train.py"), f"{TESTS}/") == (f"{TESTS}/scripts/train.py",)


def test_pytest_gets_its_conftests(tree):
    above = ("conftest.py", f"{TESTS}/conftest.py")
    folder = (f"{TESTS}/contract/conftest.py", f"{TESTS}/contract/data/x.json", f"{TESTS}/contract/test_a.py")
    assert scenario_files(tree, pytests(f"{TESTS}/contract"), TESTS) == tuple(sorted(above + folder))
    assert scenario_files(tree, pytests(f"{TESTS}/contract/"), TESTS) == tuple(sorted(above + folder))
    one = scenario_files(tree, pytests(f"{TESTS}/contract/test_a.py"), TESTS)
    assert one == tuple(sorted((*above, folder[0], folder[2])))
    assert scenario_files(tree, pytests("."), TESTS) == tuple(tree.files())


@pytest.mark.parametrize(
    "scenario", [training("gone.py"), training("scripts"), pytests("gone"), pytests(f"{TESTS}/contr")]
)
def test_what_does_not_exist(tree, scenario):
    with pytest.raises(BadInput, match="does not exist"):
        scenario_files(tree, scenario, TESTS)


def test_lay_out(tree, tmp_path):
    lay_out(tree, training("scripts/train.py"), TESTS, tmp_path / "a")
    assert [p.relative_to(tmp_path / "a").as_posix() for p in (tmp_path / "a").rglob("*.py")] == ["scripts/train.py"]
    assert (tmp_path / "a/scripts/train.py").stat().st_mode & 0o777 == 0o755
    lay_out(tree, pytests(f"{TESTS}/contract/test_a.py"), TESTS, tmp_path / "b")
    assert (tmp_path / "b" / TESTS / "contract/test_a.py").read_text() == "x\n"
    assert (tmp_path / "b/conftest.py").stat().st_mode & 0o777 == 0o644


def test_links_are_refused(tree, tmp_path):
    with pytest.raises(BadInput, match="symbolic link"):
        lay_out(tree, training("link.py"), TESTS, tmp_path)


def test_a_deleted_file_counts():
    assert scenario_uses(pytests(f"{TESTS}/contract"), f"{TESTS}/contract/gone.py", TESTS)
    assert not scenario_uses(pytests(f"{TESTS}/contract"), f"{TESTS}/contract.py", TESTS)
    assert not scenario_uses(training("train.py"), f"{TESTS}/conftest.py", TESTS)
