"""The upload for a run: the build context as a gzipped tar, with the labels in its Dockerfile.

A DockerBuildRequest has no field for labels, so they are an instruction at the end of the last stage.
"""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.instructions import read_directives

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aml_images_dagster.engine.interface import BuildRequest


def write_source_archive(request: BuildRequest, target: Path) -> None:
    """Write the archive of a request to `target`."""
    with (
        tarfile.open(request.context) as context,
        tarfile.open(target, "w:gz", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member in context:
            content = context.extractfile(member) if member.isreg() else None
            if content and member.name == request.dockerfile:
                labelled = with_labels(content.read().decode(), request.labels).encode()
                member.size, content = len(labelled), io.BytesIO(labelled)
            archive.addfile(member, content)


def with_labels(dockerfile: str, labels: Mapping[str, str]) -> str:
    """A Dockerfile whose last stage has these labels; the characters of line ends in values become spaces."""
    if not labels:
        return dockerfile
    escape = read_directives(dockerfile, str).get("escape", "\\")
    pairs = " ".join(f"{quoted(name, escape)}={quoted(value, escape)}" for name, value in labels.items())
    return f"{dockerfile}\nLABEL {pairs}\n"


def quoted(text: str, escape: str) -> str:
    """A text as one word of an instruction, nothing in it expanded.

    Source: https://docs.docker.com/reference/dockerfile/#environment-replacement; in code the shell lexer of
    moby/buildkit (frontend/dockerfile/shell): the escape character protects these three inside of double quotes.
    """
    plain = " ".join(text.splitlines())
    return '"' + "".join(escape + letter if letter in ('"', "$", escape) else letter for letter in plain) + '"'
