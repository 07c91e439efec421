"""Scanners on PATH: programs made for these tests, which print what the real ones are documented to print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.vulnerabilities.scanning import run_scanner
from tests.vulnerabilities.test_reports import GRYPE, TRIVY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REFERENCE = f"127.0.0.1:5000/base/openmpi@sha256:{'a' * 64}"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a shell script on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def make(name: str, script: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return make


@pytest.mark.parametrize(("name", "report"), [("trivy", TRIVY), ("grype", GRYPE)])
def test_a_scanner_is_given_the_image_by_digest_and_its_report_is_read(
    install: Callable[[str, str], None], tmp_path: Path, name: str, report: object
) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report))
    install(name, f'echo "$@" > {tmp_path}/asked; cat {tmp_path}/report.json')

    scan = run_scanner(name, REFERENCE)

    assert len(scan.vulnerabilities or ()) == 2
    assert REFERENCE in (tmp_path / "asked").read_text()


def test_a_scanner_that_is_not_there_has_not_looked(install: Callable[[str, str], None]) -> None:
    del install

    scan = run_scanner("trivy", REFERENCE)

    assert (scan.has_looked, scan.failed, scan.detail) == (False, False, "there is no trivy on PATH")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo '{\"SchemaVersion\": 2}'; echo 'FATAL: no database' >&2; exit 1", "it failed: FATAL: no database"),
        ("exit 3", "it failed: exit code 3"),
        ("echo nothing", "not JSON"),
        ("true", "not JSON"),
        ("echo '{\"SchemaVersion\": 3}'", "not a report of trivy"),
    ],
)
def test_a_scanner_that_fails_has_not_looked_whatever_it_has_printed(
    install: Callable[[str, str], None], script: str, said: str
) -> None:
    install("trivy", script)

    scan = run_scanner("trivy", REFERENCE)

    assert (scan.has_looked, scan.failed) == (False, True)
    assert said in scan.detail
