"""Tests that pytest runs inside a container of the image.

pytest travels with the job: it and what it needs are pure Python and are copied from the environment that
this code runs in. So an image needs nothing but python3, and the repository's tests never run on this machine.
"""

from __future__ import annotations

import functools
import posixpath
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from aml_images_dagster.testing.launch import Launch, Node, inside, job_files

if TYPE_CHECKING:
    from aml_images_dagster.catalog.tests_file import PytestScenario
    from aml_images_dagster.engine.interface import OperatingSystem
    from aml_images_dagster.testing.interface import TestJob

_DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
_FOR_PYTHON_3_10 = ("exceptiongroup", "typing_extensions")
_REPORT = "pytest.xml"
_LONGEST_REPORT = 16 * 2**20
_TOLD = 3
_NO_TESTS_COLLECTED = 5
_SUMMARY = re.compile(r"^(?:FAILED|ERROR) (?P<failure>\S.*)$", re.MULTILINE)
_COLLECTION_FAILURE = "collection failure"


def launch(job: TestJob, scenario: PytestScenario) -> Launch:
    """`python3 -m pytest PATH` in a copy of the files, with the report left among the outputs."""
    report = inside(job.os, "outputs", _REPORT)
    command = arguments(job.os, scenario, root=inside(job.os, "code"), report=report)
    archive = job_files(job)
    archive.add_folder("aml-images/launch", writable=False)
    archive.add_folder("aml-images/launch/packages", writable=False)
    for name, content in _packages():
        archive.add_file(f"aml-images/launch/packages/{name}", content)
    return Launch(
        nodes=(Node("node0", command, environment(inside(job.os, "launch", "packages"))),),
        files=archive.finish(),
        report=report,
        explain=explain,
    )


def arguments(os: OperatingSystem, scenario: PytestScenario, *, root: str, report: str) -> tuple[str, ...]:
    """Program and arguments of a scenario.

    Args:
        os: Operating system of the image.
        scenario: What to run.
        root: The folder with the files.
        report: Where the report goes.
    """
    return (
        "python" if os == "windows" else "python3",
        *("-m", "pytest", "-v", "-ra", "--color=no", "-p", "no:cacheprovider"),
        *("--rootdir", root, f"--junitxml={report}", "-o", "junit_family=xunit2"),
        scenario.path,
    )


def environment(packages: str) -> dict[str, str]:
    """The variables that a scenario needs.

    Args:
        packages: The folder with pytest and what it imports.
    """
    # Plugins that the image happens to have belong to another pytest.
    return {"PYTHONPATH": packages, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def write_packages(folder: Path) -> None:
    """Write the Python sources of pytest, and of what it imports, below a folder."""
    for name, content in _packages():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


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


def explain_output(text: str) -> str:
    """Which tests failed and why, in one line, from what pytest printed; empty when it printed no summary."""
    failures = [match["failure"] for match in _SUMMARY.finditer(text)]
    if not failures:
        return ""
    more = f"; and {len(failures) - _TOLD} more" if len(failures) > _TOLD else ""
    return "; ".join(failures[:_TOLD]) + more


def _told(case: ElementTree.Element, problem: ElementTree.Element) -> str:
    module = posixpath.basename(case.get("classname", "").replace(".", "/"))
    name = "::".join(part for part in (module, case.get("name", "")) if part)
    message = problem.get("message", "")
    if message == _COLLECTION_FAILURE:
        # pytest marks the lines of the text that name the error.
        marked = [line[2:].strip() for line in (problem.text or "").splitlines() if line.startswith("E ")]
        message = marked[-1] if marked else message
    return f"{name}: {message.strip().partition(chr(10))[0] or problem.tag}"
