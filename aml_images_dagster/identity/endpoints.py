"""Where the services of an Azure cloud are, and for which audience their tokens have to be."""

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
    """

    authority: str
    management: str
    management_scope: str
    registry_audience: str
    blobs: str

    @property
    def registry_scope(self) -> str:
        """What tokens for container registries are asked for with."""
        return f"{self.registry_audience}/.default"


_CLOUDS = {
    "public": Endpoints(
        authority="",
        management="https://management.azure.com",
        management_scope="https://management.azure.com/.default",
        registry_audience="https://containerregistry.azure.net",
        blobs="blob.core.windows.net",
    ),
    "us-government": Endpoints(
        authority="login.microsoftonline.us",
        management="https://management.usgovcloudapi.net",
        management_scope="https://management.usgovcloudapi.net/.default",
        registry_audience="https://management.usgovcloudapi.net",
        blobs="blob.core.usgovcloudapi.net",
    ),
    "china": Endpoints(
        authority="login.chinacloudapi.cn",
        management="https://management.chinacloudapi.cn",
        management_scope="https://management.chinacloudapi.cn/.default",
        registry_audience="https://management.chinacloudapi.cn",
        blobs="blob.core.chinacloudapi.cn",
    ),
}


def endpoints_of(azure: AzureSettings) -> Endpoints:
    """The endpoints that the settings choose."""
    cloud = _CLOUDS[azure.cloud]
    return replace(cloud, management=azure.management_endpoint or cloud.management)
