"""Profiles: which parts stand behind the interfaces. The only place that knows them by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.build.artifacts import Artifacts
from aml_images_dagster.build.parts import Parts
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.engine.interface import RegistryLogin
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.resolution import BaseResolver
from aml_images_dagster.testing.containers import ContainerRunner

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


def parts_for(settings: Settings) -> Parts:
    """The parts of the configured profile. Nothing is contacted before a part is used."""
    return _PROFILES[settings.profile](settings)


def _local(settings: Settings) -> Parts:
    login = _staging_login(settings)
    transfer_seconds = settings.transfer_timeout_minutes * 60
    engine = DockerEngine(
        settings.docker_host, min_free_bytes=int(settings.min_free_gb * 1e9), transfer_seconds=transfer_seconds
    )
    windows = settings.windows_docker_host
    return Parts(
        engine=engine,
        windows_engine=DockerEngine(windows, transfer_seconds=transfer_seconds) if windows else None,
        staging=OciRegistry(settings.staging_registry, login),
        staging_login=login,
        production=OciRegistry(settings.production_registry),
        runner=ContainerRunner(
            settings.docker_host, windows_docker_host=windows, login=lambda: login, pull_seconds=transfer_seconds
        ),
        resolver=BaseResolver(settings.base_mirrors, engine),
        artifacts=Artifacts(settings.artifacts_uri),
    )


def _staging_login(settings: Settings) -> RegistryLogin | None:
    if settings.staging_client_id is None or settings.staging_client_secret is None:
        return None
    return RegistryLogin(settings.staging_client_id, settings.staging_client_secret.get_secret_value())


_PROFILES = {"local": _local}
