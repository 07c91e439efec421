"""What the Dockerfile of a pull request may not ask of a builder: to reach out of its build.

RUN has the network that `pull_requests.build_network` gives it. A Dockerfile can ask for another one; and what ADD
fetches, the builder fetches itself, with the network of its own machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile import remote_sources
from aml_images_dagster.catalog.dockerfile.instructions import read_instructions
from aml_images_dagster.catalog.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.catalog.dockerfile.flags import Flag
    from aml_images_dagster.catalog.image import Image

_OWN_NETWORKS = ("default", "none")


def reaching_out(image: Image) -> Iterator[Finding]:
    """Everything by which an image's Dockerfile would reach out of its build."""
    if image.parsed is None:
        return
    for instruction in read_instructions(image.parsed.text, str, image.parsed.escape):
        for flag in instruction.flags if instruction.keyword == "RUN" else ():
            if _reaches_out(flag):
                yield _at(image, f"RUN --{flag.name}={flag.value}", instruction.line)
    for source in remote_sources(image.parsed, image.settings.build_args):
        yield _at(image, f"ADD {source.written}, which the builder fetches; let RUN do it", source.line)


def _reaches_out(flag: Flag) -> bool:
    if flag.name == "network":
        return flag.value.lower() not in _OWN_NETWORKS
    return flag.name in ("security", "device")


def _at(image: Image, what: str, line: int) -> Finding:
    path, there = image.place(line)
    return Finding(image.id, "error", f"a pull request may not use {what}", path, there)
