"""Import into an Azure Container Registry: production pulls the image by digest, without a copy through this machine.

Source: https://learn.microsoft.com/azure/container-registry/container-registry-import-images.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from aml_images_dagster.catalog.reference import Reference, is_digest
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.identity.faults import TIMEOUTS, explained
from aml_images_dagster.registry.copy import Importer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from azure.core.polling import LROPoller
    from azure.mgmt.containerregistry import ContainerRegistryManagementClient

    from aml_images_dagster.engine.interface import RegistryLogin
    from aml_images_dagster.identity.credential import Credential
    from aml_images_dagster.identity.endpoints import Endpoints, RegistryId
    from aml_images_dagster.registry.interface import Registry

_ROLE = "Container Registry Data Importer and Data Reader"
_POLL_SECONDS = 2


class ResourceSource:
    """Production pulls as the identity that imports: no password anywhere.

    Args:
        staging_id: Gives the staging registry's resource id.
    """

    def __init__(self, staging_id: Callable[[], RegistryId]) -> None:
        self._staging_id = staging_id

    def __call__(self, source: Reference) -> Mapping[str, Any]:
        """The `source` of the request, without the image."""
        return {"resourceId": str(self._staging_id())}


class PasswordSource:
    """Production pulls by an account of the staging registry; its password lives in the request's body alone.

    Args:
        login: What the references of import.cfg point to; None when they lead nowhere.
    """

    def __init__(self, login: RegistryLogin | None) -> None:
        self._login = login

    def __call__(self, source: Reference) -> Mapping[str, Any]:
        """The `source` of the request, without the image.

        Raises:
            BadInput: There is no such account.
        """
        if self._login is None:
            raise BadInput(
                "no account for production to pull with is configured",
                where="STAGING_CLIENT_ID, STAGING_CLIENT_SECRET",
                hint="Set both in the environment, or import as an identity: AML_IMAGES_AZURE__IMPORT_BY=identity.",
            )
        credentials = {"username": self._login.username, "password": self._login.password}
        return {"registryUri": source.registry, "credentials": credentials}


class AcrImporter(Importer):
    """An `Importer` by `importImage` of Azure Resource Manager.

    By digest, because an import by tag races with moves of the tag; and the result is read back.

    Args:
        production: Where images go.
        production_id: Gives its resource id.
        source_for: Says how production reaches an image.
        credential: The factory's identity.
        endpoints: Of the Azure cloud.
        timeout_seconds: For one import.
    """

    def __init__(
        self,
        production: Registry,
        production_id: Callable[[], RegistryId],
        source_for: ResourceSource | PasswordSource,
        credential: Credential,
        endpoints: Endpoints,
        *,
        timeout_seconds: float,
    ) -> None:
        self._production = production
        self._production_id = production_id
        self._source_for = source_for
        self._credential = credential
        self._endpoints = endpoints
        self._timeout_seconds = timeout_seconds

    @override
    def import_image(self, source: Reference, destination: Reference, *, replace: bool) -> None:
        if not is_digest(source.digest):
            raise BadInput("an image is imported by digest", where=str(source), hint="Write repository@sha256:….")
        there = self._production.digest(destination)
        if there == source.digest:
            return
        if there and not replace:
            raise _released_already(destination, there, source)
        with explained(self._production.host, f"to import {destination}", role=_ROLE), self._client() as client:
            self._import_tag(client, source, destination, replace=replace)
        served = self._production.digest(destination)
        if served != source.digest:
            raise Unreachable(
                f"the registry serves {served or 'nothing'} where {source.digest} was imported",
                where=str(destination),
                hint="Another client writes to this tag: check the registry's activity log, then release again.",
            )

    @override
    def import_untagged(self, source: Reference, repository: str) -> None:
        copy = Reference(self._production.host, repository, digest=source.digest)
        if self._production.digest(copy) is not None:
            return
        with explained(self._production.host, f"to import {copy}", role=_ROLE), self._client() as client:
            self._import(client, source, {"untaggedTargetRepositories": [repository]}, "Force")
        if self._production.digest(copy) is None:
            raise Unreachable("it is not there after its import", where=str(copy), hint="Release again.")

    def found(self) -> str:
        """What production is, for a check; and that this identity may import, which an empty import shows.

        Raises:
            BadInput: There is no such registry, or the settings name two.
            Unreachable: This identity may not see it, or not import.
        """
        registry_id, host = self._production_id(), self._production.host
        with self._client() as client:
            with explained(host, f"what {registry_id} is", role=_ROLE):
                registry = client.registries.get(registry_id.resource_group, registry_id.name)
            with explained(host, "whether this identity may import", role=_ROLE):
                _may_import(client, registry_id)
        if registry.login_server != host:
            raise BadInput(
                f"{registry_id} is the registry {registry.login_server}, not {host}",
                where="azure.production_registry_id",
                hint="Set it and production_registry to the same registry.",
            )
        return str(registry_id)

    def _import_tag(
        self, client: ContainerRegistryManagementClient, source: Reference, destination: Reference, *, replace: bool
    ) -> None:
        from azure.core.exceptions import HttpResponseError

        target = {"targetTags": [f"{destination.repository}:{destination.tag}"]}
        try:
            self._import(client, source, target, "Force" if replace else "NoForce")
        except HttpResponseError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                raise
            # Somebody was faster since we looked; with the same image that is as good.
            there = self._production.digest(destination)
            if there and there != source.digest:
                raise _released_already(destination, there, source) from None
            if there is None:
                raise

    def _import(
        self, client: ContainerRegistryManagementClient, source: Reference, target: Mapping[str, Any], mode: str
    ) -> None:
        """One import, to its end.

        Source of the targets: https://learn.microsoft.com/rest/api/container-registry/registries/import-image;
        `untaggedTargetRepositories` takes a manifest alone, with what it refers to and not what refers to it.
        """
        registry_id = self._production_id()
        request = {
            "source": {**self._source_for(source), "sourceImage": f"{source.repository}@{source.digest}"},
            **target,
            "mode": mode,
        }
        poller: LROPoller[None] = client.registries.begin_import_image(
            registry_id.resource_group, registry_id.name, request, polling_interval=_POLL_SECONDS
        )
        poller.wait(self._timeout_seconds)
        if not poller.done():
            raise Unreachable(
                f"the import takes longer than {self._timeout_seconds / 60:g} minutes",
                where=str(source),
                hint="It continues in Azure: release again later, or set AML_IMAGES_AZURE__IMPORT_TIMEOUT_MINUTES.",
            )
        poller.result()

    def _client(self) -> ContainerRegistryManagementClient:
        from azure.mgmt.containerregistry import ContainerRegistryManagementClient

        return ContainerRegistryManagementClient(
            self._credential,
            self._production_id().subscription_id,
            base_url=self._endpoints.management,
            credential_scopes=[self._endpoints.management_scope],
            **TIMEOUTS,
        )


def _may_import(client: ContainerRegistryManagementClient, registry_id: RegistryId) -> None:
    """Ask for an import that names no image: rights are checked before the request, which is then refused.

    Source: https://learn.microsoft.com/azure/azure-resource-manager/management/overview#consistent-management-layer.
    """
    from azure.core.exceptions import HttpResponseError

    nothing = {"source": {"sourceImage": ""}, "targetTags": []}
    try:
        client.registries.begin_import_image(registry_id.resource_group, registry_id.name, nothing, polling=False)
    except HttpResponseError as error:
        if error.status_code != HTTPStatus.BAD_REQUEST:
            raise


def _released_already(destination: Reference, there: str, source: Reference) -> BadInput:
    return BadInput(
        f"the tag points to {there}, not to {source.digest}",
        where=str(destination),
        hint="A released tag never moves: release under another tag.",
    )
