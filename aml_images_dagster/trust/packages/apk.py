"""Packages of Alpine. Source: https://wiki.alpinelinux.org/wiki/Apk_spec#Installed_Database_V2."""

from __future__ import annotations

from aml_images_dagster.licences import expression
from aml_images_dagster.trust.packages.package import Document, Package, text_of


def read_installed(content: bytes) -> Document:
    """`lib/apk/db/installed`."""
    packages, files = [], []
    fields: dict[str, str] = {}
    folder = ""
    for line in [*text_of(content).splitlines(), ""]:
        key, colon, value = line.partition(":")
        if not line.strip():
            if "P" in fields and "V" in fields:
                packages.append(_package(fields))
            fields, folder = {}, ""
        elif key == "F":
            folder = value
        elif key == "R":
            files.append(f"{folder}/{value}" if folder else value)
        elif colon:
            fields[key] = value.strip()
    return Document("apk", tuple(packages), tuple(files))


def _package(fields: dict[str, str]) -> Package:
    licence = fields.get("L", "")
    origin = fields.get("o", "")
    return Package(
        "apk",
        fields["P"],
        fields["V"],
        architecture=fields.get("A", ""),
        source=origin if origin != fields["P"] else "",
        licence=expression(licence),
        licence_origin="package" if licence else "",
        homepage=fields.get("U", ""),
        supplier=fields.get("m", ""),
    )
