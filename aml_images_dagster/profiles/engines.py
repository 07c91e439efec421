"""The Docker engines that the settings name, and builders on them: the same in every profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.engine.buildkit.builder import BuildKitBuilder
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.engine.engine_builder import EngineBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aml_images_dagster.engine.interface import LoginFor
    from aml_images_dagster.settings import Settings


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines.

    Attributes:
        linux: For Linux images.
        windows: For Windows images; None when the settings name none.
    """

    linux: DockerEngine
    windows: DockerEngine | None


def engines_of(settings: Settings) -> Engines:
    """The engines of the settings."""

    def engine(host: str | None) -> DockerEngine:
        return DockerEngine(
            host,
            min_free_bytes=int(settings.min_free_gb * 1e9),
            transfer_seconds=settings.transfer_timeout_minutes * 60,
        )

    windows = settings.windows_docker_host
    return Engines(engine(settings.docker_host), engine(windows) if windows else None)


def linux_builder(engines: Engines, settings: Settings, login_for: LoginFor) -> BuildKitBuilder:
    """What builds Linux images: the BuildKit of the engine, or the builder that the settings name."""
    return BuildKitBuilder(
        Buildx(settings.docker_host, settings.builder),
        None if settings.builder else engines.linux,
        login_for,
        features_file=settings.home / "builder-features.json",
        wait_seconds=settings.engine_patience_seconds,
        push_seconds=settings.transfer_timeout_minutes * 60,
    )


def local_builder(engines: Engines, settings: Settings) -> BuildKitBuilder:
    """What builds Linux images that are only tried: the BuildKit of the engine, wherever the others are built."""
    return linux_builder(engines, settings.model_copy(update={"builder": ""}), lambda _: None)


def emulated_platforms(settings: Settings) -> Callable[[], Collection[str]]:
    """Asks the engine for Linux images what it builds for, and so runs: its own platform and those that it emulates."""
    return lambda: Buildx(settings.docker_host).inspect().platforms


def windows_builder(engines: Engines, settings: Settings, login_for: LoginFor) -> EngineBuilder | None:
    """What builds Windows images, which BuildKit does not: the engine's classic builder."""
    if engines.windows is None:
        return None
    return EngineBuilder(engines.windows, login_for, wait_seconds=settings.engine_patience_seconds)
