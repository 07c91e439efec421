"""The profile `local`: an engine and two registries on this machine; no account is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.parts import Parts
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.engine.engine_builder import EngineBuilder
from aml_images_dagster.engine.interface import LoginFor, RegistryLogin
from aml_images_dagster.profiles.checks import builder_checks, registry_checks
from aml_images_dagster.registry.importer import CopyingImporter
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.resolution import BaseResolver
from aml_images_dagster.testing.containers import ContainerRunner

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


def local_parts(settings: Settings) -> Parts:
    """The parts of the profile `local`."""
    login_for = _staging_login(settings)
    transfer_seconds = settings.transfer_timeout_minutes * 60
    min_free_bytes = int(settings.min_free_gb * 1e9)
    engine = DockerEngine(settings.docker_host, min_free_bytes=min_free_bytes, transfer_seconds=transfer_seconds)
    windows = settings.windows_docker_host
    windows_engine = DockerEngine(windows, transfer_seconds=transfer_seconds) if windows else None

    def registry(host: str) -> OciRegistry:
        return OciRegistry(host, login_for(host))

    def builder(engine: DockerEngine) -> EngineBuilder:
        return EngineBuilder(engine, login_for, patience_seconds=settings.engine_patience_seconds)

    linux_builder, windows_builder = builder(engine), builder(windows_engine) if windows_engine else None
    staging, production = registry(settings.staging_registry), registry(settings.production_registry)
    return Parts(
        builder=linux_builder,
        windows_builder=windows_builder,
        engine=engine,
        windows_engine=windows_engine,
        staging=staging,
        login_for=login_for,
        production=production,
        importer=CopyingImporter(staging, production),
        runner=ContainerRunner(
            settings.docker_host,
            windows_docker_host=windows,
            login=lambda: login_for(settings.staging_registry),
            pull_seconds=transfer_seconds,
        ),
        resolver=BaseResolver(settings.base_mirrors, engine, registry),
        artifacts=Artifacts(settings.artifacts_uri),
        checks=(*builder_checks(linux_builder, windows_builder, min_free_bytes), *registry_checks(staging, production)),
    )


def _staging_login(settings: Settings) -> LoginFor:
    """The account of the settings is one of the staging registry; every other registry is open."""
    name, secret = settings.staging_client_id, settings.staging_client_secret
    login = RegistryLogin(name, secret.get_secret_value()) if name and secret else None
    return lambda host: login if host == settings.staging_registry else None
