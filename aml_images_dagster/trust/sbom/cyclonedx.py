"""CycloneDX 1.6 as JSON. Source: https://cyclonedx.org/docs/1.6/json/."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalContact, OrganizationalEntity
from cyclonedx.model.license import LicenseAcknowledgement, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6

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
    from aml_images_dagster.trust.inventory import Inventory
    from aml_images_dagster.trust.packages import Package


def write_cyclonedx(inventory: Inventory, name: str) -> bytes:
    """See `sbom`."""
    purl = image_purl(inventory, name)
    bom = Bom(serial_number=unique_id(inventory))
    bom.metadata.timestamp = inventory.created
    bom.metadata.tools.components.add(Component(name=TOOL, version=tool_version(), type=ComponentType.APPLICATION))
    image = bom.metadata.component = Component(
        name=plain(name),
        version=inventory.digest,
        type=ComponentType.CONTAINER,
        purl=purl,
        bom_ref=str(purl),
        hashes=[HashType.from_composite_str(inventory.digest)],
        properties=[_property("remark", remark) for remark in remarks(inventory)],
    )
    parts = [_component(package) for package in inventory.packages]
    facts = inventory.distribution
    if "ID" in facts:
        version = plain(facts.get("VERSION_ID", ""))
        system = ComponentType.OPERATING_SYSTEM
        parts.append(
            Component(name=plain(facts["ID"]), version=version or None, type=system, bom_ref="operating-system")
        )
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(image, parts)
    return f"{JsonV1Dot6(bom).output_as_string(indent=1)}\n".encode()


def _component(package: Package) -> Component:
    purl = package.purl
    made_by = organization(package.supplier)
    is_of_distribution = package.type in DISTRIBUTIONS
    said = {"location": f"/{package.location}" if package.location else "", "licence-origin": package.licence_origin}
    component = Component(
        name=plain(package.name),
        version=plain(package.version),
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=f"{purl}#{plain(package.location)}",
        supplier=OrganizationalEntity(name=made_by) if made_by and is_of_distribution else None,
        authors=[OrganizationalContact(name=made_by)] if made_by and not is_of_distribution else (),
        description=plain(package.comment) or None,
        properties=[_property(name, plain(value)) for name, value in said.items() if value],
    )
    if package.licence:
        declared = LicenseAcknowledgement.DECLARED
        component.licenses.add(LicenseExpression(package.licence, acknowledgement=declared))
    homepage = address(package.homepage)
    if homepage:
        component.external_references.add(ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(homepage)))
    return component


def _property(name: str, value: str) -> Property:
    return Property(name=f"{TOOL}:{name}", value=value)
