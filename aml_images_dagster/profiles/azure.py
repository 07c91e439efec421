"""The profile `azure`: Azure Container Registry, Azure Machine Learning, and import by Azure Resource Manager.

No module of Azure's SDKs is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.parts import Parts
from aml_images_dagster.checks import Check
from aml_images_dagster.engine.acr_tasks.builder import AcrTasksBuilder
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.engine.engine_builder import EngineBuilder
from aml_images_dagster.engine.interface import RegistryLogin
from aml_images_dagster.identity.credential import credential_for
from aml_images_dagster.identity.endpoints import endpoints_of
from aml_images_dagster.identity.registry_id import registry_id
from aml_images_dagster.profiles.blob_artifacts import artifacts_of, blob_checks
from aml_images_dagster.profiles.checks import builder_checks, registry_checks
from aml_images_dagster.registry.acr import AcrRegistry
from aml_images_dagster.registry.acr_import import AcrImporter, PasswordSource, ResourceSource
from aml_images_dagster.registry.acr_login import AcrLogins
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.resolution import BaseResolver
from aml_images_dagster.testing.azure_ml.runner import AzureMlRunner

if TYPE_CHECKING:
    from aml_images_dagster.engine.interface import Builder, OperatingSystem
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.settings import Settings


def azure_parts(settings: Settings) -> Parts:
    """The parts of the profile `azure`."""
    azure, endpoints = settings.azure, endpoints_of(settings.azure)
    credential = credential_for(azure)
    ours = (settings.staging_registry, settings.production_registry)
    login_for = AcrLogins(credential, endpoints.registry_scope, ours)
    transfer_seconds = settings.transfer_timeout_minutes * 60
    min_free_bytes = int(settings.min_free_gb * 1e9)
    engine = DockerEngine(settings.docker_host, min_free_bytes=min_free_bytes, transfer_seconds=transfer_seconds)
    windows = settings.windows_docker_host
    windows_engine = DockerEngine(windows, transfer_seconds=transfer_seconds) if windows else None

    def registry(host: str) -> Registry:
        return (
            AcrRegistry(host, credential, endpoints.registry_audience, login_for) if host in ours else OciRegistry(host)
        )

    def builder(engine: DockerEngine) -> EngineBuilder:
        return EngineBuilder(engine, login_for, patience_seconds=settings.engine_patience_seconds)

    def acr_tasks(os: OperatingSystem) -> AcrTasksBuilder:
        return AcrTasksBuilder(
            lambda: registry_id(azure, "staging_registry_id", settings.staging_registry),
            os,
            credential,
            endpoints,
            agent_pool=azure.task_agent_pool,
            poll_seconds=azure.task_poll_seconds,
        )

    linux_builder = acr_tasks("linux") if azure.linux_builder == "acr-tasks" else builder(engine)
    windows_builder: Builder | None = builder(windows_engine) if windows_engine else None
    if azure.windows_builder == "acr-tasks":
        windows_builder = acr_tasks("windows")

    staging, production = registry(settings.staging_registry), registry(settings.production_registry)
    importer = AcrImporter(
        production,
        lambda: registry_id(azure, "production_registry_id", settings.production_registry),
        _source(settings),
        credential,
        endpoints,
        timeout_seconds=azure.import_timeout_minutes * 60,
    )
    artifacts = artifacts_of(settings, credential, endpoints)
    runner = AzureMlRunner(azure, lambda: credential)
    return Parts(
        builder=linux_builder,
        windows_builder=windows_builder,
        engine=engine,
        windows_engine=windows_engine,
        staging=staging,
        login_for=login_for,
        production=production,
        importer=importer,
        runner=runner,
        # What only the engine here holds is out of reach for a builder elsewhere.
        resolver=BaseResolver(settings.base_mirrors, engine if azure.linux_builder == "engine" else None, registry),
        artifacts=artifacts,
        checks=(
            *builder_checks(linux_builder, windows_builder, min_free_bytes),
            Check("identity", lambda: credential.found(endpoints.management_scope), before_build=True),
            *registry_checks(staging, production),
            *blob_checks(settings, artifacts),
            Check("import into production", importer.found),
        ),
        import_sdks=_import_sdks,
    )


def _import_sdks() -> None:
    """The modules of azure.core import each other in circles, which fails where two threads enter a circle at once."""
    import azure.core.pipeline.policies  # noqa: F401


def _source(settings: Settings) -> ResourceSource | PasswordSource:
    if settings.azure.import_by == "identity":
        return ResourceSource(lambda: registry_id(settings.azure, "staging_registry_id", settings.staging_registry))
    return PasswordSource(lambda: _account(settings))


def _account(settings: Settings) -> RegistryLogin | None:
    """What the references of import.cfg stand for."""
    name, secret = settings.staging_client_id, settings.staging_client_secret
    return RegistryLogin(name, secret.get_secret_value()) if name and secret else None
