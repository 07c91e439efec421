"""The checks of engines and registries, for every profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.builder_features import BUILDKIT
from aml_images_dagster.checks import Check
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.engine.interface import Builder
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.settings import Settings


def builder_checks(linux: Builder, windows: Builder | None, settings: Settings) -> tuple[Check, ...]:
    """Whether builders answer and have space. A build checks only those that its images need."""

    def ask(builder: Builder, os: str) -> str:
        info = builder.info()
        if info.os != os:
            raise BadInput(
                f"it builds {info.os} images, not {os} images",
                where=f"{info.version}, {info.os_version}",
                hint="Name another one: docker_host is for Linux, windows_docker_host for Windows.",
            )
        if info.free_bytes is not None and info.free_bytes < settings.min_free_gb * 1e9:
            raise BadInput(
                f"its disk is nearly full: {info.free_bytes / 1e9:.1f} GB are free, "
                f"a build needs {settings.min_free_gb:.1f} GB",
                where=info.version,
                hint="Free space, e.g. with `docker system prune`, or lower min_free_gb.",
            )
        space = "" if info.free_bytes is None else f", {info.free_bytes / 1e9:.1f} GB free"
        return f"{info.version}, {info.os}/{info.architecture}{space}{_lacks(builder, os)}"

    checks = [Check("Linux builder", lambda: ask(linux, "linux"))]
    if windows is not None:
        checks.append(Check("Windows builder", lambda: ask(windows, "windows")))
    return tuple(checks)


def _lacks(builder: Builder, os: str) -> str:
    """What validation will refuse, because the builder does not know it."""
    lacking = () if os == "windows" else sorted(BUILDKIT.supported - builder.features().supported)
    return f"; does not know {', '.join(lacking)}" if lacking else ""


def registry_checks(staging: Registry, production: Registry) -> tuple[Check, Check]:
    """Whether both registries answer and accept the login."""

    def ask(registry: Registry) -> str:
        registry.ping()
        return registry.url

    return (
        Check("staging registry", lambda: ask(staging), before_build=True),
        Check("production registry", lambda: ask(production)),
    )
