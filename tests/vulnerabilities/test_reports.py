"""Reports of scanners. The documents are samples in the scanners' documented form, written for these tests."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.errors import BadInput
from aml_images_dagster.vulnerabilities.reports import answer_of_defender, query_of_defender, read_report

if TYPE_CHECKING:
    from aml_images_dagster.vulnerabilities.vulnerability import Scan

TRIVY: dict[str, Any] = {
    "SchemaVersion": 2,
    "ArtifactName": "127.0.0.1:5000/base/openmpi",
    "ArtifactType": "container_image",
    "Results": [
        {
            "Target": "base/openmpi (debian 12.11)",
            "Class": "os-pkgs",
            "Type": "debian",
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2026-1",
                    "PkgName": "libssl3",
                    "InstalledVersion": "3.0.15-1~deb12u1",
                    "FixedVersion": "3.0.17-1~deb12u2",
                    "Status": "fixed",
                    "Severity": "CRITICAL",
                    "Title": "openssl: out of bounds",
                    "PrimaryURL": "https://avd.aquasec.com/nvd/cve-2026-1",
                },
                {"VulnerabilityID": "CVE-2026-2", "PkgName": "perl-base", "Severity": "HIGH", "Status": "affected"},
            ],
        },
        {"Target": "Python", "Class": "lang-pkgs", "Type": "python-pkg", "Vulnerabilities": None},
        {"Target": "a", "Class": "secret"},
    ],
}
GRYPE: dict[str, Any] = {
    "matches": [
        {
            "vulnerability": {
                "id": "GHSA-xxxx",
                "dataSource": "https://github.com/advisories/GHSA-xxxx",
                "severity": "Medium",
                "fix": {"versions": ["2.0", "1.9.1"], "state": "fixed"},
            },
            "artifact": {"name": "requests", "version": "1.9", "type": "python"},
        },
        {
            "vulnerability": {
                "id": "CVE-2026-3",
                "severity": "Negligible",
                "fix": {"versions": None, "state": "not-fixed"},
            },
            "artifact": {"name": "libc6", "version": "2.36", "type": "deb"},
        },
    ],
    "descriptor": {"name": "grype"},
}
DEFENDER: dict[str, Any] = {
    "data": [
        {
            "properties": {
                "id": "CVE-2022-42969",
                "displayName": "CVE-2022-42969",
                "status": {"code": code},
                "additionalData": {
                    "assessedResourceType": "AzureContainerRegistryVulnerability",
                    "vulnerabilityDetails": {"severity": "High", "cveId": "CVE-2022-42969"},
                    "softwareDetails": {
                        "packageName": name,
                        "category": "Language",
                        "language": "python",
                        "version": "1.11.0.0",
                        "fixedVersion": None,
                    },
                },
            }
        }
        for code, name in (("Unhealthy", "py"), ("Healthy", "other"))
    ]
}
SAMPLES = {"trivy": TRIVY, "grype": GRYPE, "defender": DEFENDER}


def _read(source: str, document: object) -> Scan:
    return read_report(source, json.dumps(document).encode(), "report.json")


def test_what_trivy_has_found() -> None:
    first, second = _read("trivy", TRIVY).vulnerabilities or ()

    assert (first.id, first.package, first.type) == ("CVE-2026-1", "libssl3", "deb")
    assert (first.installed, first.fixed_in, first.severity) == ("3.0.15-1~deb12u1", "3.0.17-1~deb12u2", "critical")
    assert first.url == "https://avd.aquasec.com/nvd/cve-2026-1"
    assert (second.id, second.fixed_in, second.severity) == ("CVE-2026-2", "", "high")


@pytest.mark.parametrize(
    ("families", "packages"),
    [
        ("debian ubuntu echo", "deb"),
        ("alpine wolfi chainguard minimos", "apk"),
        ("redhat centos centos-stream coreos rocky alma fedora oracle amazon azurelinux cbl-mariner photon", "rpm"),
        ("opensuse opensuse-leap opensuse-tumbleweed sles slem opensuse.leap opensuse.tumbleweed", "rpm"),
    ],
)
def test_the_packages_of_every_operating_system_that_trivy_names(families: str, packages: str) -> None:
    document = copy.deepcopy(TRIVY)
    for family in (*families.split(), *(["suse linux enterprise server"] if packages == "rpm" else [])):
        document["Results"][0]["Type"] = family
        assert {each.type for each in _read("trivy", document).vulnerabilities or ()} == {packages}, family


def test_what_grype_has_found() -> None:
    first, second = _read("grype", GRYPE).vulnerabilities or ()

    assert (first.id, first.type, first.fixed_in, first.severity) == ("GHSA-xxxx", "pypi", "2.0, 1.9.1", "medium")
    assert (second.fixed_in, second.severity) == ("", "negligible")


def test_what_defender_has_found_without_what_is_mended() -> None:
    (only,) = _read("defender", DEFENDER).vulnerabilities or ()

    assert (only.id, only.package, only.type, only.fixed_in) == ("CVE-2022-42969", "py", "pypi", "")


def test_no_row_of_defender_is_an_image_that_is_not_scanned_yet_and_not_a_clean_one() -> None:
    scan = read_report("defender", answer_of_defender([]), "Azure Resource Graph")

    assert not scan.has_looked
    assert scan.detail == "the image has not been scanned yet"


def test_the_query_of_defender_names_the_digest() -> None:
    assert f'digest == "sha256:{"a" * 64}"' in query_of_defender(f"sha256:{'a' * 64}")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("trivy", ""),
        ("trivy", "{}"),
        ("trivy", "[]"),
        ("trivy", '{"SchemaVersion": 1, "Results": []}'),
        ("trivy", json.dumps(GRYPE)),
        ("grype", json.dumps(TRIVY)),
        ("grype", '{"matches": [{"artifact": {"name": "x"}}]}'),
        ("grype", '{"matches": [{"artifact": {"name": 1}, "vulnerability": {"id": "a"}}]}'),
        ("defender", "{}"),
        ("defender", '{"error": {"code": "BadRequest"}}'),
        ("defender", '{"data": [{"properties": {}}]}'),
        ("trivy", '{"SchemaVersion": 2, "Results": ' + "[" * 100_000),
    ],
)
def test_what_is_no_report_is_refused_and_never_taken_for_a_clean_image(source: str, text: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_report(source, text.encode(), "report.json")

    assert caught.value.where == "report.json"
    assert caught.value.hint


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(st.text(max_size=5), inside, max_size=2),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_a_report_with_anything_anywhere_is_read_or_refused(source: str, data: st.DataObject) -> None:
    document = copy.deepcopy(SAMPLES[source])
    place: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(_ANYTHING)

    try:
        scan = _read(source, document)
    except BadInput:
        return
    assert all(each.id and each.package for each in scan.vulnerabilities or ())


def test_words_of_strangers_cannot_write_to_the_terminal() -> None:
    document = copy.deepcopy(TRIVY)
    document["Results"][0]["Vulnerabilities"][0]["PkgName"] = "lib\x1b[2Jssl\n"

    first = (_read("trivy", document).vulnerabilities or ())[0]

    assert first.package == "lib\\x1b[2Jssl\\n"
