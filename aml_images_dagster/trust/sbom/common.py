"""What both formats say alike."""

from __future__ import annotations

import json
import re
import uuid
from importlib.metadata import version
from typing import TYPE_CHECKING

from packageurl import PackageURL

from aml_images_dagster.text import counted, printable_line

if TYPE_CHECKING:
    from aml_images_dagster.trust.inventory import Inventory

TOOL = "aml-images-dagster"
_ADDRESS = re.compile(r"https?://[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~:/?@!$&()*+,;=-]*)?")
"""The addresses that every validator takes; some refuse what others do not."""
_LONGEST = 500


def tool_version() -> str:
    """The version of this factory."""
    return version(TOOL)


def image_purl(inventory: Inventory, name: str) -> PackageURL:
    """The image as a package URL; where it is stored is no part of it, so that it is the same in every registry."""
    return PackageURL("oci", None, name.rpartition("/")[2], inventory.digest)


def unique_id(inventory: Inventory) -> uuid.UUID:
    """An identifier that the digest and what is said of the image decide."""
    said = json.dumps(inventory.document(), sort_keys=True)
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{inventory.digest} {said}")


def remarks(inventory: Inventory) -> list[str]:
    """What is to be said of the image as a whole."""
    said = [f"platform {inventory.platform}"]
    if inventory.unowned_files:
        # A format of files wants sums of each, and these are few and known, or many and none of a supplier.
        paths = ", ".join(f"/{unowned.path}" for unowned in inventory.unowned)
        said.append(f"{counted(inventory.unowned_files, 'file')} of no package: {paths}")
    said += [f"not read: {unread}" for unread in inventory.unread]
    return [plain(remark, longest=20_000) for remark in said]


def plain(text: str, longest: int = _LONGEST) -> str:
    """A text of a stranger as one line that every reader of JSON takes."""
    return printable_line(text)[:longest]


def address(text: str) -> str:
    """A web address that readers accept as one; else empty."""
    return text if len(text) <= _LONGEST and _ADDRESS.fullmatch(text) else ""


def organization(text: str) -> str:
    """The name in `Name <address>`. Addresses of people are left out: they are nobody's business here."""
    return plain(re.sub(r"\s*[<(].*", "", text, flags=re.DOTALL).strip().strip('"'))
