"""Packages of Debian and Ubuntu, also in images without dpkg ("distroless").

Sources: dpkg(1), deb-control(5); `var/lib/dpkg/status.d` is that of https://github.com/GoogleContainerTools/distroless.
"""

from __future__ import annotations

import itertools
import posixpath
import re

from aml_images_dagster.licences import all_of, expression
from aml_images_dagster.trust.packages.package import Document, Package, paragraphs, text_of

_ON_DISK = {"installed", "triggers-pending", "triggers-awaited", "half-configured", "unpacked"}
"""States of packages whose files are all there, configured or not. Source: dpkg(1), "Package states"."""
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])")
_SAYS_ITS_FORMAT = 1000
"""Characters in which a machine-readable copyright file says that it is one."""
_MOST_LICENCES = 500
"""Licences of one package that are read; real ones have some tens."""
_UNAMBIGUOUS = ("Apache-2.0", "CC0-1.0", "MPL-1.1", "MPL-2.0")
"""Texts of /usr/share/common-licenses that are one licence; naming GPL-2 does not say whether later ones are meant."""


def read_status(content: bytes) -> Document:
    """`var/lib/dpkg/status`, or a file of `status.d` for one package."""
    packages = []
    for fields in paragraphs(text_of(content)):
        name, version = fields.get("package"), fields.get("version")
        state = fields.get("status", "installed").rpartition(" ")[2]
        if not name or not version or state not in _ON_DISK:
            continue
        source, _, source_version = fields.get("source", name).partition(" ")
        source_version = source_version.strip("() ")
        packages.append(
            Package(
                "deb",
                name,
                version,
                architecture=fields.get("architecture", ""),
                source=source if source != name or source_version not in ("", version) else "",
                source_version="" if source_version == version else source_version,
                homepage=fields.get("homepage", ""),
                supplier=fields.get("maintainer", ""),
            )
        )
    return Document("deb", tuple(packages))


def read_list(content: bytes) -> Document:
    """`var/lib/dpkg/info/NAME.list`: the files of a package."""
    lines = text_of(content).splitlines()
    return Document("files", files=tuple(line.lstrip("/") for line in lines if line not in ("", "/.")))


def read_sums(content: bytes) -> Document:
    """`var/lib/dpkg/status.d/NAME.md5sums`: the files of a package without dpkg."""
    files = (line.partition("  ")[2] for line in text_of(content).splitlines())
    return Document("files", files=tuple(file.lstrip("/") for file in files if file))


def read_copyright(content: bytes) -> Document:
    """`usr/share/doc/NAME/copyright`: machine-readable, or a text that names licences of Debian.

    Source: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
    """
    text = text_of(content)
    if re.match(r"\s*(?:\S.*\n){0,5}?Format(-Specification)?:", text[:_SAYS_ITS_FORMAT], re.IGNORECASE):
        first = True
        said: dict[str, None] = {}
        for fields in paragraphs(text):
            if (first or "files" in fields) and fields.get("license"):
                said[fields["license"]] = None
            first = False
        if said:
            licence = all_of(map(expression, itertools.islice(said, _MOST_LICENCES)))
            return Document("copyright", facts={"licence": licence, "origin": "copyright file", "text": text})
    common = sorted(set(_COMMON.findall(text)))
    named = [name if name in _UNAMBIGUOUS else f"LicenseRef-common-licenses-{name.replace('+', '')}" for name in common]
    found = {"licence": all_of(named), "origin": "text"} if named else {}
    return Document("copyright", facts={**found, "text": text})


def copyright_of(package: str) -> str:
    """Where the copyright file of a package is."""
    return posixpath.join("usr/share/doc", package, "copyright")
