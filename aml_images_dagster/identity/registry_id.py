"""The Azure resource id of a container registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.settings.azure import AzureSettings


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
