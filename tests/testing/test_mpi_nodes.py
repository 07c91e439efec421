"""Open MPI over ssh between two containers, and pytest in an image: the things that need a real Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

SCRIPTS = Path(__file__).parents[2] / "base_images" / "tests"


def test_two_nodes(runner, make_job, mpi_image, build):
    job = make_job(mpi_image, {}, script="scripts/mpi_allreduce.py", nodes=2, distribution="mpi", processes_per_node=2)
    shutil.copytree(SCRIPTS / "scripts", job.code / "scripts")
    result = runner.run(job, print)
    assert result.status == "passed", result.reason
    assert "sum 10 over 4 ranks on 2 host(s): node0, node1" in result.logs[0].text
    assert runner.live(build) == []


def test_image_environment_reaches_all_nodes(runner, make_job, mpi_image):
    script = "import os, socket; print(socket.gethostname(), os.environ['ONLY_IN_THE_IMAGE'], flush=True)"
    result = runner.run(make_job(mpi_image, {"a.py": script}, nodes=2, distribution="mpi"), print)
    assert sorted(result.logs[0].text.splitlines()) == ["node0 yes", "node1 yes"], result.reason


def test_failing_rank(runner, make_job, mpi_image):
    script = "import socket, time\nif socket.gethostname() == 'node1': raise ValueError('no luck')\ntime.sleep(30)"
    result = runner.run(make_job(mpi_image, {"a.py": script}, nodes=2, distribution="mpi"), print)
    assert (result.status, result.reason) == ("failed", "node0: exit code 1: ValueError: no luck")


def test_pytest_scenario(runner, make_job, mpi_image):
    tests = (
        "import os, pathlib\n"
        "def test_good(): pass\n"
        "def test_bad(): assert os.environ['ONLY_IN_THE_IMAGE'] == 'no', 'wrong answer'\n"
        "def test_inside(): assert pathlib.Path('/opt/bin/orted').exists()\n"
    )
    job = make_job(mpi_image, {"base_images/tests/test_a.py": tests}, kind="pytest", path="base_images/tests/test_a.py")
    result = runner.run(job, print)
    assert result.status == "failed"
    assert result.reason == "1 of 3 tests failed: test_a::test_bad: AssertionError: wrong answer"
    assert "2 passed" in result.logs[0].text


@pytest.mark.parametrize(
    ("files", "path", "reason"),
    [
        ({"a/test_a.py": "x = 1"}, "a", "pytest collected no tests"),
        ({"a/test_a.py": "import nonsense"}, "a", "No module named 'nonsense'"),
        ({"a/test_a.py": ""}, "b", "file or directory not found: b"),
    ],
)
def test_pytest_that_tests_nothing(runner, make_job, mpi_image, files, path, reason):
    result = runner.run(make_job(mpi_image, files, kind="pytest", path=path), print)
    assert result.status == "failed"
    assert reason in result.reason


def test_pytest_without_python(runner, make_job, shell_image):
    result = runner.run(make_job(shell_image, {"a/test_a.py": ""}, kind="pytest", path="a"), print)
    assert (result.status, result.reason) == ("failed", "python3 is not in the image's PATH")
