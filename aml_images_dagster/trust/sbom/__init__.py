"""SBOMs of an image, in the two formats that others read, and beside them the texts of its licences.

The same image gives the same bytes: the time is that of its configuration, a document's name comes from its digest.
The libraries that write the formats are imported when one is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aml_images_dagster.trust.referrers import Artifact

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.trust.inventory import Inventory

SbomFormat = Literal["spdx", "cyclonedx"]
MEDIA_TYPES: dict[SbomFormat, str] = {
    "spdx": "application/spdx+json",
    "cyclonedx": "application/vnd.cyclonedx+json",
}
"""Media types. Source: https://www.iana.org/assignments/media-types/media-types.xhtml."""


def sbom(inventory: Inventory, name: str, form: SbomFormat) -> bytes:
    """The SBOM of an image as JSON: SPDX 2.3 or CycloneDX 1.6.

    Args:
        inventory: What is in the image.
        name: Name of the image, without registry and tag.
        form: Which format.
    """
    return _writer(form)(inventory, name)


def load() -> None:
    """Import the libraries of all formats, in a process whose forks will write them."""
    for form in MEDIA_TYPES:
        _writer(form)


def _writer(form: SbomFormat) -> Callable[[Inventory, str], bytes]:
    # Their libraries take long to import, and most processes write no SBOM.
    if form == "spdx":
        from aml_images_dagster.trust.sbom.spdx import write_spdx

        return write_spdx
    from aml_images_dagster.trust.sbom.cyclonedx import write_cyclonedx

    return write_cyclonedx


LICENCE_TEXTS = "application/vnd.aml-images.licence-texts.v1"
"""The type of the artifact; its content is UTF-8 text."""
_RULE = "-" * 100


def licence_texts(inventory: Inventory, name: str) -> Artifact | None:
    """The texts, each with the packages whose it is; None where an image has none.

    The same image gives the same bytes.

    Args:
        inventory: What is in the image.
        name: Name of the image, without registry and tag.
    """
    if not inventory.texts:
        return None
    head = (
        f"LICENCE TEXTS: {name}\n\nTexts of licences and notices in the image, each below the packages whose it is.\n"
    )
    texts = ("\n".join((_RULE, *each.of, _RULE, "", each.text, "")) for each in inventory.texts)
    content = "\n".join((head, *texts)).encode("utf-8", "replace")
    return Artifact(LICENCE_TEXTS, content, "text/plain; charset=utf-8")
