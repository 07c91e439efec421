"""Windows bases: which OS build an image of them needs below it.

A Windows container in process isolation shares the kernel of its host. Sources:
https://learn.microsoft.com/en-us/virtualization/windowscontainers/deploy-containers/version-compatibility and, for
the builds, https://github.com/microsoft/hcsshim/blob/main/osversion/windowsbuilds.go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.reference import Reference

# Version in a tag -> OS build of the host.
HOST_BUILDS = {
    "ltsc2016": "10.0.14393",
    "1607": "10.0.14393",
    "1709": "10.0.16299",
    "1803": "10.0.17134",
    "ltsc2019": "10.0.17763",
    "1809": "10.0.17763",
    "1903": "10.0.18362",
    "1909": "10.0.18363",
    "2004": "10.0.19041",
    "20h2": "10.0.19042",
    "ltsc2022": "10.0.20348",
    "ltsc2025": "10.0.26100",
}

_MICROSOFT_FOLDERS = ("windows/", "dotnet/framework/")
_MARK = re.compile(r"(^|[-.])(windowsservercore|nanoserver|servercore|windowsserver)([-.]|$)")
_BUILD = re.compile(r"(?<![0-9.])10\.0\.[0-9]{5}(?![0-9])")
_WORD = re.compile(r"[0-9a-z]+")


def is_windows(base: Reference) -> bool:
    """Whether a reference names a Windows image: one of Microsoft's bases, or a tag with a Windows base's name."""
    of_microsoft = base.registry == "mcr.microsoft.com" and (
        base.repository == "windows" or base.repository.startswith(_MICROSOFT_FOLDERS)
    )
    return of_microsoft or _MARK.search(base.tag.lower()) is not None


def host_build(base: Reference) -> str | None:
    """The OS build that a host needs for a Windows base, e.g. `10.0.20348`; None when the tag does not say."""
    tag = base.tag.lower()
    written = _BUILD.search(tag)
    if written:
        return written.group()
    return next((HOST_BUILDS[word] for word in reversed(_WORD.findall(tag)) if word in HOST_BUILDS), None)


def check_host(image: Image, os_version: str) -> None:
    """Make sure that a host can build and run a Windows image in process isolation.

    Args:
        image: A Windows image.
        os_version: What the engine says of its host, e.g. `10.0.20348.2031`; the last part does not matter.

    Raises:
        BadInput: The builds differ, or it is not known which one the image needs.
    """
    where = image.dockerfile_path
    if image.host_build is None:
        raise BadInput(
            f"it is not known which Windows the base of {image.id} is",
            where=where,
            hint=f"Take a base with one of these in its tag: {', '.join(HOST_BUILDS)}.",
        )
    if ".".join(os_version.split(".")[:3]) != image.host_build:
        release = " or ".join(name for name, build in HOST_BUILDS.items() if build == image.host_build)
        raise BadInput(
            f"{image.id} needs a Windows host of build {image.host_build} ({release or 'release unknown'}); "
            f"this engine's host is {os_version or 'of unknown version'}",
            where=where,
            hint="Process isolation wants the same build: use an engine on that Windows, or change the base.",
        )
