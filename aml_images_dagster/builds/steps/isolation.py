"""What a pull request may not use, because it would reach out of its build.

RUN has the network that `pull_requests.build_network` gives it. A Dockerfile can ask for another one, and what ADD
fetches, the builder fetches itself, with the network of its own machine. ONBUILD of a base does the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile import parse_dockerfile, remote_sources
from aml_images_dagster.catalog.dockerfile.instructions import read_instructions
from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import PinnedBase
    from aml_images_dagster.catalog.dockerfile import Dockerfile
    from aml_images_dagster.catalog.dockerfile.flags import Flag
    from aml_images_dagster.catalog.image import Image

_OWN_NETWORKS = ("default", "none")


def reaching_out(image: Image) -> Iterator[Finding]:
    """Everything by which an image's Dockerfile would reach out of its build."""
    if image.parsed is None:
        return
    for what, line in _found(image.parsed, image.settings.build_args, image.platforms):
        path, there = image.place(line)
        yield Finding(image.id, "error", f"a pull request may not use {what}", path, there)


def check_triggers(image: Image, bases: Iterable[PinnedBase], backends: Backends) -> None:
    """Refuse a base from elsewhere whose ONBUILD would reach out of the build.

    That of an image of our own is in its Dockerfile. What only the engine has, its owner has brought there.

    Raises:
        BadInput: It would; or a base cannot be read.
        Unreachable: The registry of a base does not answer.
    """
    for base in bases:
        for trigger in backends.resolver.triggers(base.pull) if not base.image and not base.warning else ():
            reaches = _reach(trigger, image.platforms)
            if reaches:
                raise BadInput(
                    f"a pull request may not use {reaches}: ONBUILD of its base {base.reference}",
                    where=image.dockerfile_path,
                    hint="Build FROM an image without this instruction.",
                )


def _reach(trigger: str, platforms: Iterable[str]) -> str:
    """By what a trigger reaches out; empty if it does not."""
    try:
        parsed = parse_dockerfile(f"FROM scratch\nONBUILD {trigger}\n")
    except BadInput:
        return trigger  # no build would get there, or it is read in another way
    return next((what for what, _ in _found(parsed, {}, platforms)), "") or _other_image(parsed)


def _other_image(trigger: Dockerfile) -> str:
    """By what a trigger takes files from another image, which nobody has looked at; empty if it does not."""
    for instruction in read_instructions(trigger.text, str, trigger.escape):
        for flag in instruction.flags:
            if flag.name == "from" or (flag.name == "mount" and "from" in flag.value.lower()):
                return f"{instruction.keyword} --{flag.name}={flag.value}"
    return ""


def _found(
    dockerfile: Dockerfile, build_args: Mapping[str, str], platforms: Iterable[str]
) -> Iterator[tuple[str, int]]:
    """What reaches out, in words, and the line of its instruction."""
    for instruction in read_instructions(dockerfile.text, str, dockerfile.escape):
        for flag in instruction.flags if instruction.keyword == "RUN" else ():
            if _reaches_out(flag):
                yield f"RUN --{flag.name}={flag.value}", instruction.line
    # Of several platforms one source may be several addresses.
    fetched = remote_sources(dockerfile, build_args, platforms)
    for written, line in dict.fromkeys((source.written, source.line) for source in fetched):
        yield f"ADD {written}, which the builder fetches; let RUN do it", line


def _reaches_out(flag: Flag) -> bool:
    if flag.name == "network":
        return flag.value.lower() not in _OWN_NETWORKS
    return flag.name in ("security", "device")
