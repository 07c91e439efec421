"""SPDX 2.3 as JSON. Source: https://spdx.github.io/spdx-spec/v2.3/."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from spdx_tools.common.spdx_licensing import spdx_licensing
from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.model import Package as SpdxPackage

from aml_images_dagster.licences import LICENCE_REF, references
from aml_images_dagster.trust.packages import DISTRIBUTIONS
from aml_images_dagster.trust.sbom.common import (
    TOOL,
    address,
    image_purl,
    organization,
    plain,
    remarks,
    tool_version,
    unique_id,
)

if TYPE_CHECKING:
    from packageurl import PackageURL

    from aml_images_dagster.trust.inventory import Inventory
    from aml_images_dagster.trust.packages import Package

_DOCUMENT, _IMAGE, _SYSTEM = "SPDXRef-DOCUMENT", "SPDXRef-Image", "SPDXRef-OperatingSystem"


def write_spdx(inventory: Inventory, name: str) -> bytes:
    """See `sbom`."""
    document = _document(inventory, name)
    converted = DocumentConverter().convert(document)  # type: ignore[no-untyped-call]
    return f"{json.dumps(converted, indent=1, sort_keys=True)}\n".encode()


def _document(inventory: Inventory, name: str) -> Document:
    purl = image_purl(inventory, name)
    image = SpdxPackage(
        spdx_id=_IMAGE,
        name=plain(name),
        version=inventory.digest,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[_checksum(inventory.digest)],
        external_references=[_reference(purl)],
        primary_package_purpose=PackagePurpose.CONTAINER,
        comment="\n".join(remarks(inventory)),
    )
    packages = [image]
    relationships = [Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE)]
    if "ID" in inventory.distribution:
        packages.append(_system(inventory))
    licences: set[str] = set()
    for number, package in enumerate(inventory.packages, 1):
        licences.update(references(package.licence))
        packages.append(_package(package, number))
    relationships += [
        Relationship(_IMAGE, RelationshipType.CONTAINS, package.spdx_id) for package in packages if package is not image
    ]
    return Document(
        CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id=_DOCUMENT,
            name=plain(f"{name}@{inventory.digest}"),
            document_namespace=f"https://spdx.org/spdxdocs/{TOOL}-{unique_id(inventory)}",
            creators=[Actor(ActorType.TOOL, f"{TOOL}-{tool_version()}")],
            created=inventory.created.replace(tzinfo=None),  # the library takes a naive time for UTC
        ),
        packages,
        relationships=relationships,
        extracted_licensing_info=[_licence(licence) for licence in sorted(licences)],
    )


def _package(package: Package, number: int) -> SpdxPackage:
    purl = package.purl
    name = re.sub(r"[^A-Za-z0-9.-]", "-", package.name)[:100]
    made_by = organization(package.supplier)
    maker = Actor(ActorType.ORGANIZATION, made_by) if made_by else SpdxNoAssertion()
    is_of_distribution = package.type in DISTRIBUTIONS
    return SpdxPackage(
        spdx_id=f"SPDXRef-{package.type}-{name}-{number}",
        name=plain(package.name),
        version=plain(package.version),
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        # Who makes a distribution supplies its packages; who wrote one of Python's has not put it into the image.
        supplier=maker if is_of_distribution else None,
        originator=None if is_of_distribution or not made_by else maker,
        homepage=address(package.homepage) or None,
        source_info=plain(_where_from(package)),
        license_concluded=SpdxNoAssertion(),
        license_declared=spdx_licensing.parse(package.licence) if package.licence else SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        external_references=[_reference(purl)],
        comment=plain(package.comment) or None,
    )


def _where_from(package: Package) -> str:
    licence = f"; licence from: {package.licence_origin}" if package.licence_origin else ""
    if package.licence_origin == "image.json":
        return f"declared in image.json{f', at /{package.location}' if package.location else ''}"
    return f"told by /{package.location}{licence}"


def _system(inventory: Inventory) -> SpdxPackage:
    facts = inventory.distribution
    return SpdxPackage(
        spdx_id=_SYSTEM,
        name=plain(facts["ID"]),
        version=plain(facts.get("VERSION_ID", "")) or None,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        primary_package_purpose=PackagePurpose.OPERATING_SYSTEM,
        summary=plain(facts.get("PRETTY_NAME", "")) or None,
    )


def _licence(licence: str) -> ExtractedLicensingInfo:
    name = licence.removeprefix(LICENCE_REF)
    text = f"The packages that name this licence have its text, e.g. in /usr/share/doc or beside their metadata: {name}"
    return ExtractedLicensingInfo(licence, text, name)


def _checksum(digest: str) -> Checksum:
    algorithm, _, value = digest.partition(":")
    return Checksum(ChecksumAlgorithm[algorithm.upper()], value)


def _reference(purl: PackageURL) -> ExternalPackageRef:
    return ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", str(purl))
