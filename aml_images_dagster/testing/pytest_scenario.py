"""Tests that pytest runs inside a container of the image.

pytest is copied with the job: it and what it needs are pure Python and are copied from the environment that
this code runs in. So an image needs nothing but python3, and the repository's tests never run on this machine.
"""

from __future__ import annotations

import functools
import io
import posixpath
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from aml_images_dagster.testing.launch import Launch, Node, inside, job_files
from aml_images_dagster.text import first_of

if TYPE_CHECKING:
    from aml_images_dagster.catalog.tests_file import PytestScenario
    from aml_images_dagster.engine.interface import OperatingSystem
    from aml_images_dagster.testing.interface import TestJob

_DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
_FOR_PYTHON_3_10 = ("exceptiongroup", "typing_extensions")
_REPORT = "pytest.xml"
_TOLD = 3
_LONGEST_TOLD = 1000
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
    found = _Failures()
    parser = ElementTree.XMLParser(target=found)  # noqa: S314 - see `_Failures.doctype`
    try:
        parser.feed(report)
        parser.close()
    except (ElementTree.ParseError, ValueError, LookupError):
        return ""
    if not found.failures:
        return ""
    more = f"; and {found.failures - _TOLD} more" if found.failures > _TOLD else ""
    return f"{found.failed} of {found.cases} tests failed: {'; '.join(found.told)}{more}"


def explain_output(text: str) -> str:
    """Which tests failed and why, in one line, from what pytest printed; empty when it printed no summary."""
    failures = [match["failure"] for match in _SUMMARY.finditer(text)]
    return first_of([failure[:_LONGEST_TOLD] for failure in failures], _TOLD, "; ")


class _Failures:
    """Counts what a report has, as it is parsed: a tree of it would be many times as large.

    Source of the methods: https://docs.python.org/3/library/xml.etree.elementtree.html#xml.etree.ElementTree.TreeBuilder.

    Attributes:
        cases: How many tests there are.
        failed: How many of them have failed.
        failures: How many failures they have; a test may fail in its course and again in its end.
        told: The first failures, in words.
    """

    def __init__(self) -> None:
        self.cases = self.failed = self.failures = 0
        self.told: list[str] = []
        self._depth = 0
        self._case_depth = 0
        self._case = ""
        self._case_failed = False
        self._message: str | None = None
        self._text = io.StringIO()

    def doctype(self, *_: str | None) -> None:
        """No document type, hence no entities that expand."""
        raise ValueError("a report has no document type")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._depth += 1
        if tag == "testcase":
            self.cases += 1
            self._case_depth = self._depth
            self._case_failed = False
            module = posixpath.basename(attributes.get("classname", "").replace(".", "/"))
            self._case = "::".join(part for part in (module, attributes.get("name", "")) if part)
        elif tag in ("failure", "error") and self._depth == self._case_depth + 1 > 1:
            self.failures += 1
            self.failed += not self._case_failed
            self._case_failed = True
            if self.failures <= _TOLD:
                self._message, self._text = attributes.get("message", ""), io.StringIO()

    def data(self, text: str) -> None:
        """Text of an element."""
        if self._message == _COLLECTION_FAILURE:
            self._text.write(text)

    def end(self, tag: str) -> None:
        """An element ends."""
        self._depth -= 1
        if tag == "testcase":
            self._case_depth = 0
        elif tag in ("failure", "error") and self._message is not None:
            message, self._message = self._message, None
            if message == _COLLECTION_FAILURE:
                # pytest marks the lines of the text that name the error.
                lines = self._text.getvalue().splitlines()
                message = next((line[2:].strip() for line in reversed(lines) if line.startswith("E ")), message)
            self.told.append(f"{self._case}: {message.strip().partition(chr(10))[0] or tag}"[:_LONGEST_TOLD])

    def close(self) -> None:
        """The document has ended."""
