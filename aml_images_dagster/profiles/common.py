"""What every profile has: Docker engines, builders on them, checks of engines and registries, the staging account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.builder_features import BUILDKIT
from aml_images_dagster.checks import Check
from aml_images_dagster.engine.buildkit.builder import BuildKitBuilder
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.engine.engine_builder import EngineBuilder
from aml_images_dagster.engine.interface import RegistryLogin
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aml_images_dagster.engine.interface import Builder, LoginFor
    from aml_images_dagster.registry.interface import Registry
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

    checks = [Check("Linux builder", lambda: ask(linux, "linux"), only_for="build")]
    if windows is not None:
        checks.append(Check("Windows builder", lambda: ask(windows, "windows"), only_for="build"))
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


def staging_account(settings: Settings) -> RegistryLogin | None:
    """STAGING_CLIENT_ID and STAGING_CLIENT_SECRET, which import.cfg refers to; None when they are not set."""
    name, secret = settings.staging_client_id, settings.staging_client_secret
    return RegistryLogin(name, secret.get_secret_value()) if name and secret else None
