"""The full texts of the licences in an image, as one text to be attached to it beside its SBOMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.trust.referrers import Artifact

if TYPE_CHECKING:
    from aml_images_dagster.trust.inventory import Inventory

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
