"""Packages of conda. Source: https://docs.conda.io/projects/conda/en/stable/dev-guide/api/conda/models/records/."""

from __future__ import annotations

import json
import posixpath
from typing import Any

from aml_images_dagster.licences import expression
from aml_images_dagster.trust.packages.package import Document, Package, UnreadableDocument

_MOST_VALUES = 300_000
"""Lists and objects of one file: each takes much more memory than it has characters."""


def read_meta(content: bytes) -> Document:
    """`conda-meta/NAME-VERSION-BUILD.json` of an environment."""
    if content.count(b"[") + content.count(b"{") > _MOST_VALUES:
        raise UnreadableDocument(f"more than {_MOST_VALUES:,} lists and objects")
    try:
        meta = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableDocument("not valid JSON") from error
    if not isinstance(meta, dict) or not (_said(meta, "name") and _said(meta, "version")):
        raise UnreadableDocument("no name or no version")
    licence = _said(meta, "license")
    channel = _said(meta, "channel").rstrip("/")
    subfolder = _said(meta, "subdir")
    qualifiers = {
        "build": _said(meta, "build"),
        "channel": posixpath.basename(channel.removesuffix(f"/{subfolder}")),
        "subdir": subfolder,
        "type": next((end for end in ("conda", "tar.bz2") if _said(meta, "fn").endswith(f".{end}")), ""),
    }
    files = meta.get("files")
    return Document(
        "conda",
        (
            Package(
                "conda",
                _said(meta, "name"),
                _said(meta, "version"),
                licence=expression(licence),
                licence_origin="package" if licence else "",
                qualifiers=tuple(sorted((name, value) for name, value in qualifiers.items() if value)),
            ),
        ),
        tuple(file for file in files if isinstance(file, str)) if isinstance(files, list) else (),
        files_below=2,
    )


def _said(meta: dict[str, Any], key: str) -> str:
    value = meta.get(key)
    return value.strip() if isinstance(value, str) else ""
