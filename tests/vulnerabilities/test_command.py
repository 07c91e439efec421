"""`aml-images vulnerabilities`: inputs that are refused before a registry is asked."""

from __future__ import annotations

import pytest

from aml_images_dagster.cli.vulnerabilities import _reports
from aml_images_dagster.errors import BadInput


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("snyk=report.json", "not a source and a file"),
        ("trivy", "not a source and a file"),
        ("trivy=/nowhere/report.json", "the report cannot be read"),
        ("grype=/dev/null", "not JSON"),
    ],
)
def test_a_report_that_cannot_be_read_is_refused(named: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        _reports((named,))
