"""The checks of what every profile stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.checks import Check

if TYPE_CHECKING:
    from aml_images_dagster.engine.interface import Engine
    from aml_images_dagster.registry.interface import Registry


def engine_check(engine: Engine) -> Check:
    """Whether the engine answers. A build asks the engines that its images need, and no other."""

    def ask() -> str:
        info = engine.info()
        return f"Docker {info.version}, {info.os}/{info.architecture}"

    return Check("engine", ask)


def registry_checks(staging: Registry, production: Registry) -> tuple[Check, Check]:
    """Whether both registries answer and let us in."""

    def ask(registry: Registry) -> str:
        registry.ping()
        return registry.url

    return (
        Check("staging registry", lambda: ask(staging), before_build=True),
        Check("production registry", lambda: ask(production)),
    )
