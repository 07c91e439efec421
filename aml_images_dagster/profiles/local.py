"""The profile `local`: an engine and two registries on this machine; no account is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.backends import Backends
from aml_images_dagster.profiles.blob_artifacts import artifacts_on_disk
from aml_images_dagster.profiles.common import (
    builder_checks,
    emulated_platforms,
    engines_of,
    linux_builder,
    local_builder,
    registry_checks,
    staging_account,
    windows_builder,
)
from aml_images_dagster.registry.copy import CopyingImporter
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.resolution import BaseResolver
from aml_images_dagster.testing.containers import ContainerRunner

if TYPE_CHECKING:
    from aml_images_dagster.engine.interface import RegistryLogin
    from aml_images_dagster.settings import Settings


def local_backends(settings: Settings) -> Backends:
    """The backends of the profile `local`."""
    account = staging_account(settings)

    def login_for(host: str) -> RegistryLogin | None:
        # Every other registry is open.
        return account if host == settings.staging_registry else None

    def registry(host: str) -> OciRegistry:
        return OciRegistry(host, login_for(host), trusted=settings.trusts(host), setting=settings.naming(host))

    engines = engines_of(settings)
    builder, windows = linux_builder(engines, settings, login_for), windows_builder(engines, settings, login_for)
    staging, production = registry(settings.staging_registry), registry(settings.production_registry)
    return Backends(
        builder=builder,
        windows_builder=windows,
        engine=local_builder(engines, settings),
        windows_engine=engines.windows,
        staging=staging,
        login_for=login_for,
        production=production,
        importer=CopyingImporter(staging, production),
        runner=ContainerRunner(
            settings.docker_host,
            windows_docker_host=settings.windows_docker_host,
            login=lambda: account,
            pull_seconds=settings.transfer_timeout_minutes * 60,
            emulated=emulated_platforms(settings) if settings.test_emulated else None,
        ),
        resolver=BaseResolver(settings.base_mirrors, engines.linux, registry),
        artifacts=artifacts_on_disk(settings),
        frontends=settings.frontends,
        checks=(*builder_checks(builder, windows, settings), *registry_checks(staging, production)),
    )
