"""A package, and the documents in an image that list packages and name the distribution."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packageurl import PackageURL

DISTRIBUTIONS = ("deb", "rpm", "apk")
"""Types of packages of a distribution of Linux."""
TEXT = "text"
"""The kind of a document that is the text of a licence."""

_LONGEST = 1000
_WANTED = ("ID", "VERSION_ID", "VERSION_CODENAME", "NAME", "PRETTY_NAME")
_LONGEST_FACT = 200


class UnreadableDocument(ValueError):  # noqa: N818
    """A document that is damaged or in a form that is not read; the text says which."""


@dataclass(frozen=True, slots=True)
class Package:
    """One package that is installed in an image.

    Attributes:
        type: Type of its package URL: deb, rpm, apk, pypi, conda, or that of a declared content.
        name: Its name.
        version: Its version, as its packaging system writes it.
        architecture: Its architecture; empty where it has none of its own.
        source: Name of the source package that it is made from, where that differs.
        source_version: Version of that, where it differs.
        licence: An SPDX expression; empty when none was found.
        licence_origin: Where the licence was found, in one word or two; empty when it was not.
        location: The document that lists it, or the path of a declared content.
        homepage: Address of its project; empty when it is not known.
        supplier: Who made it: a name, and possibly an address in angle brackets.
        namespace: Namespace of its package URL: for packages of a distribution the distribution's identifier.
        qualifiers: Further qualifiers of its package URL.
        comment: What else is to be said of it.
    """

    type: str
    name: str
    version: str
    architecture: str = ""
    source: str = ""
    source_version: str = ""
    licence: str = ""
    licence_origin: str = ""
    location: str = ""
    homepage: str = ""
    supplier: str = ""
    namespace: str = ""
    qualifiers: tuple[tuple[str, str], ...] = ()
    comment: str = ""

    @property
    def purl(self) -> PackageURL:
        """Its package URL. Source: https://github.com/package-url/purl-spec."""
        from packageurl import PackageURL

        qualifiers = dict(self.qualifiers)
        if self.architecture and self.type in DISTRIBUTIONS:
            qualifiers["arch"] = self.architecture
        if self.source and self.type in DISTRIBUTIONS:
            qualifiers["upstream"] = self.source + (f"@{self.source_version}" if self.source_version else "")
        version = self.version
        if self.type == "rpm":  # in its package URL the epoch is a qualifier
            epoch, _, version = version.rpartition(":")
            qualifiers |= {"epoch": epoch} if epoch else {}
        return PackageURL(self.type, self.namespace or None, self.name, version or None, qualifiers)

    @classmethod
    def read(cls, document: dict[str, Any]) -> Package:
        """The package that `written` has written."""
        return cls(**(document | {"qualifiers": tuple(map(tuple, document.get("qualifiers", ())))}))

    def written(self) -> dict[str, Any]:
        """The package for JSON, without what is empty."""
        written = {name: value for name, value in asdict(self).items() if value}
        return {name: _short(value) if isinstance(value, str) else value for name, value in written.items()}


@dataclass(frozen=True, slots=True)
class Document:
    """What one file of an image says.

    Attributes:
        kind: What it is: the type of its packages, `files`, `copyright`, `text` or `os`.
        packages: Packages that are installed.
        files: Paths of files that belong to a package.
        files_below: Where these paths begin: 1 is the folder of the document, 2 the one around it; 0 is the image's
            root.
        facts: What else it says, by name.
    """

    kind: str
    packages: tuple[Package, ...] = ()
    files: tuple[str, ...] = ()
    files_below: int = 0
    facts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, document: dict[str, Any]) -> Document:
        """The document that `written` has written."""
        return cls(
            kind=document["kind"],
            packages=tuple(map(Package.read, document.get("packages", ()))),
            files=tuple(document.get("files", ())),
            files_below=document.get("files_below", 0),
            facts=document.get("facts", {}),
        )

    def written(self) -> dict[str, Any]:
        """The document for JSON."""
        written = {
            "packages": [package.written() for package in self.packages],
            "files": list(self.files),
            "files_below": self.files_below,
            "facts": self.facts,
        }
        return {"kind": self.kind} | {name: value for name, value in written.items() if value}


def _short(text: str) -> str:
    """A text of a stranger with a length that everything can cope with, and without halves of characters."""
    return text[:_LONGEST].encode("utf-8", "replace").decode()


def text_of(content: bytes) -> str:
    """A file as text; bytes that are no UTF-8 are replaced."""
    return content.decode("utf-8", "replace")


def read_text(content: bytes) -> Document:
    """The text of a licence, or of the notices that come with it."""
    return Document(TEXT, facts={"text": text_of(content)})


def paragraphs(text: str) -> Iterable[dict[str, str]]:
    """The paragraphs of a control file of Debian: the first line of each field, by its name in lower case.

    Source: https://www.debian.org/doc/debian-policy/ch-controlfields.html.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif line[0] not in " \t#":
            name, colon, value = line.partition(":")
            if colon:
                fields[name.lower()] = value.strip()
    if fields:
        yield fields


def read_os_release(content: bytes) -> Document:
    """`os-release`: which distribution an image is.

    Source: https://www.freedesktop.org/software/systemd/man/latest/os-release.html.
    """
    lines = (line.partition("=") for line in text_of(content).splitlines())
    values = {name.strip(): _unquoted(value.strip())[:_LONGEST_FACT] for name, sign, value in lines if sign}
    return Document("os", facts={name: values[name] for name in _WANTED if values.get(name)})


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return re.sub(r"\\(.)", r"\1", value)
