"""What the ways to launch ask of the engine, without an engine: Windows above all, which has none here."""

from __future__ import annotations

import io
import tarfile

import pytest

from aml_images_dagster.errors import BadInput
from aml_images_dagster.testing import pytest_scenario
from aml_images_dagster.testing.container_job import container_options
from aml_images_dagster.testing.containers import launch_of
from aml_images_dagster.testing.interface import TestJob as Job
from aml_images_dagster.testing.launch import Limits


@pytest.fixture
def make(tmp_path):
    from pydantic import TypeAdapter

    from aml_images_dagster.catalog.tests_file import Scenario

    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/train.py").write_text("print(1)")
    (tmp_path / "scripts/__pycache__").mkdir()
    (tmp_path / "scripts/__pycache__/train.pyc").write_text("")

    def make(os_, **scenario):
        scenario = TypeAdapter(Scenario).validate_python({"name": "trial", "kind": "training"} | scenario)
        return Job("job", "20260101.0", "base/x", "r.example/x@sha256:0", os_, scenario, tmp_path, 60)

    return make


def _options(job):
    launch = launch_of(job)
    return [container_options(job, launch, node, Limits()) for node in launch.nodes]


def _names(files):
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        return archive.getnames()


def test_windows_script(make):
    [options] = _options(make("windows", script="scripts/train.py"))
    assert options["entrypoint"] == ["python"]
    assert options["command"] == ["scripts/train.py"]
    assert options["working_dir"] == r"C:\aml-images\code"
    assert options["environment"]["AML_IMAGES_OUTPUTS"] == r"C:\aml-images\outputs"
    # A Windows engine refuses these.
    assert not options.keys() & {"init", "pids_limit", "security_opt", "shm_size", "memswap_limit", "user"}


def test_windows_pytest(make):
    job = make("windows", kind="pytest", path="base_images/tests/a.py")
    [options] = _options(job)
    assert options["entrypoint"] == ["python"]
    assert r"--junitxml=C:\aml-images\outputs\pytest.xml" in options["command"]
    assert options["environment"]["PYTHONPATH"] == r"C:\aml-images\launch\packages"
    assert launch_of(job).report == r"C:\aml-images\outputs\pytest.xml"


@pytest.mark.parametrize(
    "scenario",
    [
        {"script": "a.py", "distribution": "mpi"},
        {"script": "a.py", "distribution": "pytorch", "processes_per_node": 2},
    ],
)
def test_windows_cannot(make, scenario):
    with pytest.raises(BadInput):
        launch_of(make("windows", **scenario))


def test_linux_defaults(make):
    [options] = _options(make("linux", script="scripts/train.py"))
    assert options["security_opt"] == ["no-new-privileges"]
    assert options["mem_limit"] == options["memswap_limit"]
    assert "volumes" not in options
    assert "privileged" not in options


def test_files_are_copies_without_caches(make):
    names = _names(launch_of(make("linux", script="scripts/train.py")).files)
    assert names == [
        "aml-images",
        "aml-images/code",
        "aml-images/code/scripts",
        "aml-images/code/scripts/train.py",
        "aml-images/outputs",
    ]


def test_pytest_travels_along(make):
    names = set(_names(launch_of(make("linux", kind="pytest", path="a.py")).files))
    packages = "aml-images/launch/packages/"
    assert {packages + name for name in ("pytest/__init__.py", "pluggy/__init__.py")} <= names
    assert all(name.endswith((".py", "/METADATA")) for name in names if name.startswith(packages))


@pytest.mark.parametrize(
    ("code", "report", "reason"),
    [
        (1, b"", ""),
        (1, b"<testsuites>", ""),
        (1, b"<!DOCTYPE x [<!ENTITY a 'b'>]><testsuites>&a;</testsuites>", ""),
        (5, b"<testsuites/>", "pytest collected no tests"),
        (1, b"<testsuites><testcase name='a'/></testsuites>", ""),
        (
            1,
            b"<s><testcase classname='d.test_a' name='b'><failure message='no&#10;luck'/></testcase><testcase/></s>",
            "1 of 2 tests failed: test_a::b: no",
        ),
        (
            1,
            b"<s>" + b"<testcase name='a'><error message='m'/></testcase>" * 5 + b"</s>",
            "5 of 5 tests failed: a: m; a: m; a: m; and 2 more",
        ),
    ],
)
def test_pytest_report(code, report, reason):
    assert pytest_scenario.explain(code, report) == reason
