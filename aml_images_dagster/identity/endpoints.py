"""Addresses of the services of an Azure cloud, the audiences of their tokens, and resource ids of registries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.settings.azure import AzureSettings


@dataclass(frozen=True, slots=True)
class Endpoints:
    """One Azure cloud.

    Source: https://learn.microsoft.com/azure/developer/python/sdk/authentication/multi-cloud, and for registries
    the `audience` of azure-containerregistry.

    Attributes:
        authority: Host of Entra ID; empty leaves it to azure-identity (`AZURE_AUTHORITY_HOST`).
        management: URL of Azure Resource Manager.
        management_scope: What its tokens are asked for with.
        registry_audience: What tokens for container registries are given for.
        blobs: How the hosts of storage accounts end.
        vault_scope: What tokens for key vaults are asked for with.
    """

    authority: str
    management: str
    management_scope: str
    registry_audience: str
    blobs: str
    vault_scope: str

    @property
    def registry_scope(self) -> str:
        """What tokens for container registries are asked for with."""
        return f"{self.registry_audience}/.default"


def _cloud(management: str, blobs: str, vaults: str, *, authority: str = "", registry_audience: str = "") -> Endpoints:
    return Endpoints(
        authority=authority,
        management=management,
        management_scope=f"{management}/.default",
        registry_audience=registry_audience or management,
        blobs=blobs,
        vault_scope=f"https://{vaults}/.default",
    )


_CLOUDS = {
    "public": _cloud(
        "https://management.azure.com",
        "blob.core.windows.net",
        "vault.azure.net",
        registry_audience="https://containerregistry.azure.net",
    ),
    "us-government": _cloud(
        "https://management.usgovcloudapi.net",
        "blob.core.usgovcloudapi.net",
        "vault.usgovcloudapi.net",
        authority="login.microsoftonline.us",
    ),
    "china": _cloud(
        "https://management.chinacloudapi.cn",
        "blob.core.chinacloudapi.cn",
        "vault.azure.cn",
        authority="login.chinacloudapi.cn",
    ),
}


def endpoints_of(azure: AzureSettings) -> Endpoints:
    """The endpoints that the settings choose."""
    cloud = _CLOUDS[azure.cloud]
    return replace(cloud, management=azure.management_endpoint or cloud.management)


@dataclass(frozen=True, slots=True)
class RegistryId:
    """Which registry is meant when Azure Resource Manager is asked.

    Attributes:
        subscription_id: Id of its subscription.
        resource_group: Its resource group.
        name: Its name, the first part of its host.
    """

    subscription_id: str
    resource_group: str
    name: str

    @classmethod
    def parse(cls, text: str) -> RegistryId:
        """Read a resource id whose form the settings have checked."""
        _, _, subscription, _, group, _, _, _, name = text.split("/")
        return cls(subscription, group, name)

    def __str__(self) -> str:
        group = f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
        return f"{group}/providers/Microsoft.ContainerRegistry/registries/{self.name}"


def registry_id(azure: AzureSettings, setting: str, host: str) -> RegistryId:
    """The id that a setting names, or else that of the registry at a host, in the resource group of the settings.

    Args:
        azure: The settings.
        setting: `staging_registry_id` or `production_registry_id`.
        host: Of the registry, e.g. `contoso.azurecr.io`.

    Raises:
        BadInput: Neither the id nor what it would be made of is set.
    """
    given = getattr(azure, setting)
    if given:
        return RegistryId.parse(given)
    if not (azure.subscription_id and azure.resource_group):
        raise BadInput(
            f"the resource id of the registry {host} is not known",
            where=f"azure.{setting}",
            hint=f"Set AML_IMAGES_AZURE__{setting.upper()} (`az acr show --query id`), or subscription and "
            "resource group.",
        )
    return RegistryId(azure.subscription_id, azure.resource_group, host.partition(".")[0])
