"""Tests that pytest runs inside a container of the image.

pytest travels with the job: it and what it needs are pure Python and are copied from the environment that
this code runs in. So an image needs nothing but python3, and the repository's tests never run on this machine.
"""

from __future__ import annotations

import functools
import posixpath
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from aml_images_dagster.testing.launch import Launch, Node, inside, job_files

if TYPE_CHECKING:
    from aml_images_dagster.catalog.tests_file import PytestScenario
    from aml_images_dagster.testing.interface import TestJob

_DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
_FOR_PYTHON_3_10 = ("exceptiongroup", "typing_extensions")
_REPORT = "pytest.xml"
_LONGEST_REPORT = 16 * 2**20
_TOLD = 3
_NO_TESTS_COLLECTED = 5
_COLLECTION_FAILURE = "collection failure"


def launch(job: TestJob, scenario: PytestScenario) -> Launch:
    """`python3 -m pytest PATH` in a copy of the files, with the report left among the outputs."""
    packages = inside(job.os, "launch", "packages")
    report = inside(job.os, "outputs", _REPORT)
    command = (
        "python" if job.os == "windows" else "python3",
        *("-m", "pytest", "-v", "-ra", "--color=no", "-p", "no:cacheprovider"),
        *("--rootdir", inside(job.os, "code"), f"--junitxml={report}", "-o", "junit_family=xunit2"),
        scenario.path,
    )
    environment = {
        "PYTHONPATH": packages,
        # Plugins that the image happens to have belong to another pytest.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    archive = job_files(job)
    archive.add_folder("aml-images/launch", writable=False)
    archive.add_folder("aml-images/launch/packages", writable=False)
    for name, content in _packages():
        archive.add_file(f"aml-images/launch/packages/{name}", content)
    return Launch(
        nodes=(Node("node0", command, environment),),
        files=archive.finish(),
        report=report,
        explain=explain,
    )


@functools.cache
def _packages() -> tuple[tuple[str, bytes], ...]:
    """Name and content of the Python sources of pytest and of what it imports."""
    found: list[tuple[str, bytes]] = []
    for distribution in (*_DISTRIBUTIONS, *_FOR_PYTHON_3_10):
        try:
            files = metadata.files(distribution)
        except metadata.PackageNotFoundError:
            if distribution in _DISTRIBUTIONS:
                raise
            continue
        for file in files or ():
            name = file.as_posix()
            # METADATA, because some of the packages look up their own version.
            if (file.suffix == ".py" or file.name == "METADATA") and not name.startswith(".."):
                found.append((name, Path(str(file.locate())).read_bytes()))
    return tuple(sorted(found))


def explain(exit_code: int, report: bytes) -> str:
    """Which tests failed and why, in one line, from a report in JUnit's XML form.

    The report comes from the container and is not trusted: anything unreadable gives an empty reason.

    Sources: https://docs.pytest.org/en/stable/how-to/output.html#creating-junitxml-format-files and
    https://docs.pytest.org/en/stable/reference/exit-codes.html.

    Args:
        exit_code: pytest's.
        report: The file's content.
    """
    if exit_code == _NO_TESTS_COLLECTED:
        return "pytest collected no tests"
    if len(report) > _LONGEST_REPORT or b"<!DOCTYPE" in report:
        return ""
    try:
        root = ElementTree.fromstring(report)  # noqa: S314 - no document type, hence no entities
    except ElementTree.ParseError:
        return ""
    cases = list(root.iter("testcase"))
    failures = [(case, problem) for case in cases for problem in (*case.findall("failure"), *case.findall("error"))]
    if not failures:
        return ""
    told = "; ".join(_told(case, problem) for case, problem in failures[:_TOLD])
    more = f"; and {len(failures) - _TOLD} more" if len(failures) > _TOLD else ""
    failed = len({id(case) for case, _ in failures})
    return f"{failed} of {len(cases)} tests failed: {told}{more}"


def _told(case: ElementTree.Element, problem: ElementTree.Element) -> str:
    module = posixpath.basename(case.get("classname", "").replace(".", "/"))
    name = "::".join(part for part in (module, case.get("name", "")) if part)
    message = problem.get("message", "")
    if message == _COLLECTION_FAILURE:
        # pytest marks the lines of the text that name the error.
        marked = [line[2:].strip() for line in (problem.text or "").splitlines() if line.startswith("E ")]
        message = marked[-1] if marked else message
    return f"{name}: {message.strip().partition(chr(10))[0] or problem.tag}"
