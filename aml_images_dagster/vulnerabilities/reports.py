"""Reports of scanners that others have written: Trivy, Grype, Microsoft Defender for Containers.

Sources: https://trivy.dev/latest/docs/configuration/reporting/#json (SchemaVersion 2),
https://github.com/anchore/grype (`-o json`),
https://learn.microsoft.com/azure/defender-for-cloud/subassessment-rest-api.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel, to_pascal

from aml_images_dagster.errors import BadInput
from aml_images_dagster.text import printable_line
from aml_images_dagster.vulnerabilities.vulnerability import Scan, Vulnerability, severity_of

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_TITLE = 120
_TYPES = {
    "python-pkg": "pypi",
    "python": "pypi",
    "conda-pkg": "conda",
    "linux": "deb",
}
# Families of operating systems, as trivy names them. Source: https://github.com/aquasecurity/trivy,
# pkg/fanal/types/const.go; which packages they have: pkg/purl/purl.go.
# The names of the last line are those of older versions.
_TYPES |= dict.fromkeys(("debian", "ubuntu", "echo"), "deb")
_TYPES |= dict.fromkeys(("alpine", "wolfi", "chainguard", "minimos"), "apk")
_TYPES |= dict.fromkeys(
    (
        *("redhat", "centos", "centos-stream", "coreos", "rocky", "alma", "fedora", "oracle", "amazon"),
        *("azurelinux", "cbl-mariner", "photon", "opensuse", "opensuse-leap", "opensuse-tumbleweed", "sles", "slem"),
        *("opensuse.leap", "opensuse.tumbleweed", "suse linux enterprise server", "suse linux enterprise micro"),
    ),
    "rpm",
)

_Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]


def _no_list(value: object) -> object:
    return () if value is None else value  # Go writes null for an empty list


class _Pascal(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal)


class _Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _TrivyVulnerability(_Pascal):
    vulnerability_id: str = Field(min_length=1, alias="VulnerabilityID")
    pkg_name: str = Field(min_length=1)
    installed_version: _Text = ""
    fixed_version: _Text = ""
    severity: _Text = ""
    title: _Text = ""
    primary_url: _Text = Field(default="", alias="PrimaryURL")
    vendor_ids: Annotated[tuple[str, ...], BeforeValidator(_no_list)] = Field(default=(), alias="VendorIDs")


class _TrivyResult(_Pascal):
    type: _Text = ""
    vulnerabilities: Annotated[tuple[_TrivyVulnerability, ...], BeforeValidator(_no_list)] = ()


class _Trivy(_Pascal):
    schema_version: Literal[2]
    results: Annotated[tuple[_TrivyResult, ...], BeforeValidator(_no_list)] = ()


def trivy(document: object) -> tuple[Vulnerability, ...]:
    """What `trivy image --format json` has found.

    Raises:
        ValidationError: It is not such a report.
    """
    return tuple(
        _vulnerability(
            each.vulnerability_id,
            each.pkg_name,
            result.type,
            each.installed_version,
            each.fixed_version,
            each.severity,
            "trivy",
            each.title,
            each.primary_url,
            each.vendor_ids,
        )
        for result in _Trivy.model_validate(document).results
        for each in result.vulnerabilities
    )


class _GrypeFix(_Camel):
    versions: Annotated[tuple[str, ...], BeforeValidator(_no_list)] = ()


class _GrypeAdvisory(_Camel):
    id: str = Field(min_length=1)


class _GrypeVulnerability(_Camel):
    id: str = Field(min_length=1)
    severity: _Text = ""
    fix: _GrypeFix = _GrypeFix()
    description: _Text = ""
    data_source: _Text = ""
    advisories: Annotated[tuple[_GrypeAdvisory, ...], BeforeValidator(_no_list)] = ()


class _GrypeArtifact(_Camel):
    name: str = Field(min_length=1)
    version: _Text = ""
    type: _Text = ""


class _GrypeMatch(_Camel):
    vulnerability: _GrypeVulnerability
    artifact: _GrypeArtifact


class _Grype(_Camel):
    matches: Annotated[tuple[_GrypeMatch, ...], BeforeValidator(_no_list)]


def grype(document: object) -> tuple[Vulnerability, ...]:
    """What `grype -o json` has found.

    Raises:
        ValidationError: It is not such a report.
    """
    return tuple(
        _vulnerability(
            match.vulnerability.id,
            match.artifact.name,
            match.artifact.type,
            match.artifact.version,
            ", ".join(match.vulnerability.fix.versions),
            match.vulnerability.severity,
            "grype",
            match.vulnerability.description,
            match.vulnerability.data_source,
            tuple(advisory.id for advisory in match.vulnerability.advisories),
        )
        for match in _Grype.model_validate(document).matches
    )


class _DefenderStatus(_Camel):
    code: str


class _DefenderVulnerability(_Camel):
    cve_id: _Text = ""
    severity: _Text = ""


class _DefenderSoftware(_Camel):
    package_name: _Text = ""
    category: _Text = ""
    language: _Text = ""
    version: _Text = ""
    fixed_version: _Text = ""


class _DefenderData(_Camel):
    vulnerability_details: _DefenderVulnerability
    software_details: _DefenderSoftware = _DefenderSoftware()


class _DefenderProperties(_Camel):
    id: str = Field(min_length=1)
    display_name: _Text = ""
    status: _DefenderStatus
    additional_data: _DefenderData


class _DefenderRow(_Camel):
    properties: _DefenderProperties


class _Defender(_Camel):
    data: tuple[_DefenderRow, ...]


def defender(document: object) -> tuple[Vulnerability, ...] | None:
    """What Azure Resource Graph has of an image: `az graph query -q … -o json`.

    Returns:
        What was found; None for no row at all: then the image has not been scanned yet.

    Raises:
        ValidationError: It is not such an answer.
    """
    rows = _Defender.model_validate(document).data
    if not rows:
        return None
    return tuple(
        _vulnerability(
            about.additional_data.vulnerability_details.cve_id or about.id,
            software.package_name or "unknown",
            software.language or software.category,
            software.version,
            software.fixed_version,
            about.additional_data.vulnerability_details.severity,
            "defender",
            about.display_name,
            "",
        )
        for about in (row.properties for row in rows)
        if about.status.code == "Unhealthy"
        for software in [about.additional_data.software_details]
    )


def _vulnerability(
    identifier: str,
    package: str,
    kind: str,
    installed: str,
    fixed_in: str,
    severity: str,
    source: str,
    title: str,
    url: str,
    advisories: tuple[str, ...] = (),
) -> Vulnerability:
    kind = kind.lower()
    return Vulnerability(
        id=printable_line(identifier),
        package=printable_line(package),
        type=printable_line(_TYPES.get(kind, kind)),
        installed=printable_line(installed),
        fixed_in=printable_line(fixed_in),
        severity=severity_of(severity),
        source=source,
        title=printable_line(title)[:_LONGEST_TITLE],
        url=printable_line(url),
        advisories=tuple(map(printable_line, advisories)),
    )


_READERS: dict[str, Callable[[object], tuple[Vulnerability, ...] | None]] = {
    "trivy": trivy,
    "grype": grype,
    "defender": defender,
}
SOURCES_OF_REPORTS = tuple(_READERS)
"""Scanners whose reports are read."""


def read_report(source: str, content: bytes, where: str) -> Scan:
    """Read the report of a scanner.

    Args:
        source: trivy, grype or defender.
        content: The report.
        where: Where it comes from, for the message.

    Raises:
        BadInput: It is not a report of that scanner: it counts as no report, never as an empty one.
    """
    try:
        found = _READERS[source](json.loads(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(
            f"not a report of {source}: {place or 'the document'}: {first['msg']}", where=where, hint=_HINTS[source]
        ) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}", where=where, hint=_HINTS[source]) from None
    return Scan(source, found, "" if found is not None else "the image has not been scanned yet")


_HINTS = {
    "trivy": "Make it with: trivy image --format json --output FILE REFERENCE",
    "grype": "Make it with: grype registry:REFERENCE -o json --file FILE",
    "defender": "Make it with: az graph query -o json, as docs/trust.md has it",
}


def query_of_defender(digest: str) -> str:
    """The query of Azure Resource Graph for what Defender has found in an image.

    The key is that of the assessment "container images in registries have vulnerabilities resolved".
    """
    return f"""securityresources
| where type =~ "microsoft.security/assessments/subassessments"
| where id contains "c0b7cfc6-3172-465a-b378-53c7ff2cc0d5"
| where properties.additionalData.artifactDetails.digest == "{digest}"
| project properties"""


def answer_of_defender(rows: list[Any]) -> bytes:
    """Rows of Azure Resource Graph as the document that `read_report` takes."""
    return json.dumps({"data": rows}).encode()
