"""Resource ids of registries: as set, or made of what is set."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from aml_images_dagster.errors import BadInput
from aml_images_dagster.identity.endpoints import RegistryId, endpoints_of, registry_id
from aml_images_dagster.settings.azure import AzureSettings

ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/contoso"


def test_what_is_set_is_used() -> None:
    azure = AzureSettings(production_registry_id=ID, subscription_id="other", resource_group="other")
    found = registry_id(azure, "production_registry_id", "somewhere.azurecr.io")
    assert found == RegistryId("s", "g", "contoso")
    assert str(found) == ID


def test_else_it_is_made_of_the_host() -> None:
    azure = AzureSettings(subscription_id="s", resource_group="g")
    assert str(registry_id(azure, "staging_registry_id", "contoso.azurecr.io")) == ID


def test_or_it_is_missing() -> None:
    with pytest.raises(BadInput, match=r"contoso\.azurecr\.io is not known") as missing:
        registry_id(AzureSettings(subscription_id="s"), "staging_registry_id", "contoso.azurecr.io")
    assert "AML_IMAGES_AZURE__STAGING_REGISTRY_ID" in missing.value.hint


@pytest.mark.parametrize("wrong", ["contoso", "contoso.azurecr.io", ID + "/more", ID.replace("/g/", "/")])
def test_what_is_no_id_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="az acr show"):
        AzureSettings(staging_registry_id=wrong)


def test_clouds() -> None:
    assert endpoints_of(AzureSettings()).management == "https://management.azure.com"
    assert endpoints_of(AzureSettings(cloud="china")).registry_scope == "https://management.chinacloudapi.cn/.default"
    own = AzureSettings(cloud="us-government", management_endpoint="https://127.0.0.1:1/")
    assert endpoints_of(own).management == "https://127.0.0.1:1"
    with pytest.raises(ValidationError, match="begins with https"):
        AzureSettings(management_endpoint="http://127.0.0.1:1")
