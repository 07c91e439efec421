"""The profile `azure`: Azure Container Registry, Azure Machine Learning, and import by Azure Resource Manager.

No module of Azure's SDKs is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.backends import Backends
from aml_images_dagster.checks import Check
from aml_images_dagster.engine.acr_tasks.builder import AcrTasksBuilder
from aml_images_dagster.identity.credential import credential_for
from aml_images_dagster.identity.endpoints import endpoints_of, registry_id
from aml_images_dagster.profiles.blob_artifacts import artifacts_of, blob_checks
from aml_images_dagster.profiles.common import (
    builder_checks,
    engines_of,
    linux_builder,
    local_builder,
    registry_checks,
    staging_account,
    windows_builder,
)
from aml_images_dagster.registry.acr import AcrLogins, AcrRegistry
from aml_images_dagster.registry.acr_import import AcrImporter, PasswordSource, ResourceSource
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.resolution import BaseResolver
from aml_images_dagster.testing.azure_ml.runner import AzureMlRunner

if TYPE_CHECKING:
    from aml_images_dagster.engine.interface import Builder, OperatingSystem
    from aml_images_dagster.identity.endpoints import RegistryId
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.settings import Settings


def azure_backends(settings: Settings) -> Backends:
    """The backends of the profile `azure`."""
    azure, endpoints = settings.azure, endpoints_of(settings.azure)
    credential = credential_for(azure)
    ours = (settings.staging_registry, settings.production_registry)
    login_for = AcrLogins(credential, endpoints.registry_scope, ours)

    def registry(host: str) -> Registry:
        if host in ours:
            return AcrRegistry(host, credential, endpoints.registry_audience, login_for, setting=settings.naming(host))
        return OciRegistry(host, trusted=settings.trusts(host), setting=settings.naming(host))

    def staging_id() -> RegistryId:
        return registry_id(azure, "staging_registry_id", settings.staging_registry)

    def acr_tasks(os: OperatingSystem) -> AcrTasksBuilder:
        return AcrTasksBuilder(
            staging_id,
            os,
            credential,
            endpoints,
            agent_pool=azure.task_agent_pool,
            buildx=azure.task_buildx if os == "linux" else "",
            poll_seconds=azure.task_poll_seconds,
        )

    engines = engines_of(settings)
    builds_here = azure.linux_builder == "engine"
    builder: Builder = linux_builder(engines, settings, login_for) if builds_here else acr_tasks("linux")
    windows: Builder | None = windows_builder(engines, settings, login_for)
    if azure.windows_builder == "acr-tasks":
        windows = acr_tasks("windows")

    staging, production = registry(settings.staging_registry), registry(settings.production_registry)
    importer = AcrImporter(
        production,
        lambda: registry_id(azure, "production_registry_id", settings.production_registry),
        ResourceSource(staging_id) if azure.import_by == "identity" else PasswordSource(staging_account(settings)),
        credential,
        endpoints,
        timeout_seconds=azure.import_timeout_minutes * 60,
    )
    artifacts = artifacts_of(settings, credential, endpoints)
    return Backends(
        builder=builder,
        windows_builder=windows,
        engine=local_builder(engines, settings),
        windows_engine=engines.windows,
        staging=staging,
        login_for=login_for,
        production=production,
        importer=importer,
        runner=AzureMlRunner(azure, lambda: credential),
        # What only the engine here holds is out of reach for a builder elsewhere.
        resolver=BaseResolver(settings.base_mirrors, engines.linux if builds_here else None, registry),
        artifacts=artifacts,
        frontends=settings.frontends,
        checks=(
            *builder_checks(builder, windows, settings),
            Check("identity", lambda: credential.found(endpoints.management_scope), before_build=True),
            *registry_checks(staging, production),
            *blob_checks(settings, artifacts),
            Check("import into production", importer.found, only_for="release"),
        ),
        import_sdks=_import_sdks,
    )


def _import_sdks() -> None:
    """The modules of azure.core import each other in circles, which fails where two threads enter a circle at once."""
    import azure.core.pipeline.policies  # noqa: F401
