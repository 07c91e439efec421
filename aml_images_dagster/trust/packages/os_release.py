"""Which distribution an image is. Source: https://www.freedesktop.org/software/systemd/man/latest/os-release.html."""

from __future__ import annotations

import re

from aml_images_dagster.trust.packages.package import Document, text_of

_WANTED = ("ID", "VERSION_ID", "VERSION_CODENAME", "NAME", "PRETTY_NAME")
_LONGEST = 200


def read_os_release(content: bytes) -> Document:
    """`os-release`."""
    lines = (line.partition("=") for line in text_of(content).splitlines())
    values = {name.strip(): _unquoted(value.strip())[:_LONGEST] for name, sign, value in lines if sign}
    return Document("os", facts={name: values[name] for name in _WANTED if values.get(name)})


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return re.sub(r"\\(.)", r"\1", value)
