"""The addresses of the services of an Azure cloud, and the audiences of their tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
