"""Python distributions, in environments wherever they are.

Sources: https://packaging.python.org/en/latest/specifications/recording-installed-packages/ and core-metadata/ there;
eggs: https://setuptools.pypa.io/en/latest/deprecated/python_eggs.html.
"""

from __future__ import annotations

import csv
import email.parser
import email.policy
import re
from typing import TYPE_CHECKING

from aml_images_dagster.licences import all_of, expression
from aml_images_dagster.trust.packages.package import Document, Package, UnreadableDocument, text_of

if TYPE_CHECKING:
    from email.message import Message

_LONGEST_NAME = 60
"""Characters of a License field that is a name; longer ones are the text itself."""
_MOST_CLASSIFIERS = 50
_NO_LICENCE = ("", "UNKNOWN", "NONE")
_PAGES = ("homepage", "home", "source", "repository", "source code", "github")


def read_metadata(content: bytes) -> Document:
    """`METADATA` of a `.dist-info`, `PKG-INFO` of an `.egg-info` or an egg, or a file `.egg-info`."""
    head = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[0]
    # What is no UTF-8 becomes a replacement character; the parser of bytes would make objects of it.
    meta = email.parser.Parser(policy=email.policy.compat32).parsestr(text_of(head), headersonly=True)
    name, version = _said(meta, "Name"), _said(meta, "Version")
    if not name or not version:
        raise UnreadableDocument("no name or no version")
    licence, origin = _licence(meta)
    package = Package(
        "pypi",
        re.sub(r"[-_.]+", "-", name).lower(),
        version,
        licence=licence,
        licence_origin=origin,
        homepage=_homepage(meta),
        supplier=_said(meta, "Author") or _said(meta, "Maintainer") or _said(meta, "Author-email"),
    )
    return Document("pypi", (package,))


def read_record(content: bytes) -> Document:
    """`RECORD` of a `.dist-info`: its files, relative to the folder around it."""
    try:
        files = tuple(row[0] for row in csv.reader(text_of(content).splitlines()) if row)
    except csv.Error as error:
        raise UnreadableDocument(str(error)) from error
    return Document("files", files=files, files_below=2)


def read_installed_files(content: bytes) -> Document:
    """`installed-files.txt` of an `.egg-info`: its files, relative to that folder."""
    return Document("files", files=tuple(filter(None, text_of(content).splitlines())), files_below=1)


def _licence(meta: Message) -> tuple[str, str]:
    stated = _said(meta, "License-Expression")
    if stated:
        return expression(stated), "License-Expression"
    field = str(meta.get("License") or "").strip()
    if field.upper() not in _NO_LICENCE and len(field) <= _LONGEST_NAME and "\n" not in field:
        return expression(field), "License"
    classifiers = [
        classifier.rpartition("::")[2].strip()
        for classifier in map(str, meta.get_all("Classifier", []))
        if classifier.startswith("License ::") and classifier.strip() != "License :: OSI Approved"
    ]
    return all_of(map(expression, classifiers[:_MOST_CLASSIFIERS])), "classifiers" if classifiers else ""


def _homepage(meta: Message) -> str:
    page = _said(meta, "Home-page")
    if page and page.upper() not in _NO_LICENCE:
        return page
    urls = (str(url).partition(",") for url in meta.get_all("Project-URL", []))
    pages = {label.strip().lower(): url.strip() for label, _, url in urls}
    return next((pages[label] for label in _PAGES if label in pages), "")


def _said(meta: Message, field: str) -> str:
    return " ".join(str(meta.get(field) or "").split())
