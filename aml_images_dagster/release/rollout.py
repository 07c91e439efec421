"""The ServiceGroupRoot of a drop: what Ev2 reads to run the import in its own, approved place.

Source: the schemas named in the documents, and public Microsoft repositories that push images through Ev2
(see docs/release-files.md). Everything that differs between clouds is a `__NAME__` that ScopeBindings.json fills in.
"""

from __future__ import annotations

from typing import Any

SHELL_PACKAGE = "import.tar"
_SCHEMAS = "https://ev2schema.azure.net/schemas"
_SERVICE_GROUP = "Microsoft.AzureML.BaseImages"
_RESOURCE = "ImportImages"
_PARAMETERS = "Parameters/ImportImages.Parameters.json"
_SCOPE = "Global"

# What the release system must define; each becomes a binding __NAME__ -> $(Name).
VARIABLES = {
    "SUBSCRIPTION_ID": "SubscriptionId",
    "RESOURCE_GROUP": "ResourceGroup",
    "LOCATION": "Location",
    "MANAGED_IDENTITY": "ManagedIdentityResourceId",
    "PRODUCTION_REGISTRY": "ProductionRegistryName",
    "STAGING_REGISTRY_ID": "StagingRegistryResourceId",
    "NOTIFICATION_EMAIL": "NotificationEmail",
}


def service_group_root(build: str) -> dict[str, dict[str, Any] | str]:
    """The files of ServiceGroupRoot by path: JSON documents, and buildver.txt as text."""
    return {
        "RolloutSpec.json": _rollout_spec(build),
        "ServiceModel.json": _service_model(),
        "ScopeBindings.json": _scope_bindings(),
        _PARAMETERS: _parameters(),
        "buildver.txt": build,
    }


def _rollout_spec(build: str) -> dict[str, Any]:
    return {
        "$schema": f"{_SCHEMAS}/2020-01-01/rolloutSpecification.json",
        "ContentVersion": "1.0.0.0",
        "RolloutMetadata": {
            "ServiceModelPath": "ServiceModel.json",
            "ScopeBindingsPath": "ScopeBindings.json",
            "Name": f"Import base images of build {build}",
            "RolloutType": "Major",
            "BuildSource": {"Parameters": {"VersionFile": "buildver.txt"}},
            "Notification": {"Email": {"To": "__NOTIFICATION_EMAIL__"}},
        },
        "OrchestratedSteps": [
            {
                "name": _RESOURCE,
                "targetType": "ServiceResource",
                "targetName": _RESOURCE,
                "actions": [f"Shell/{_RESOURCE}"],
                "dependsOn": [],
            }
        ],
    }


def _service_model() -> dict[str, Any]:
    return {
        "$schema": f"{_SCHEMAS}/2020-01-01/serviceModel.json",
        "ContentVersion": "1.0.0.0",
        "ServiceMetadata": {"ServiceGroup": _SERVICE_GROUP, "Environment": "Prod"},
        "ServiceResourceGroupDefinitions": [
            {
                "Name": f"{_RESOURCE}Definition",
                "ServiceResourceDefinitions": [
                    {
                        "Name": f"{_RESOURCE}Resource",
                        "ComposedOf": {"Extension": {"Shell": [{"Type": _RESOURCE, "Properties": {}}]}},
                    }
                ],
            }
        ],
        "ServiceResourceGroups": [
            {
                "AzureResourceGroupName": "__RESOURCE_GROUP__",
                "Location": "__LOCATION__",
                "AzureSubscriptionId": "__SUBSCRIPTION_ID__",
                "InstanceOf": f"{_RESOURCE}Definition",
                "ScopeTags": [{"Name": _SCOPE}],
                "ServiceResources": [
                    {
                        "Name": _RESOURCE,
                        "InstanceOf": f"{_RESOURCE}Resource",
                        "RolloutParametersPath": _PARAMETERS,
                    }
                ],
            }
        ],
    }


def _scope_bindings() -> dict[str, Any]:
    return {
        "$schema": f"{_SCHEMAS}/2020-01-01/scopeBindings.json",
        "contentVersion": "1.0.0.0",
        "scopeBindings": [
            {
                "scopeTagName": _SCOPE,
                "bindings": [
                    {"find": f"__{find}__", "replaceWith": f"$({variable})"} for find, variable in VARIABLES.items()
                ],
            }
        ],
    }


def _parameters() -> dict[str, Any]:
    return {
        "$schema": f"{_SCHEMAS}/2020-01-01/rolloutParameters.json",
        "contentVersion": "1.0.0.0",
        "shellExtensions": [
            {
                "name": _RESOURCE,
                "type": _RESOURCE,
                "properties": {"maxexecutiontime": "PT2H"},
                "package": {"reference": {"path": SHELL_PACKAGE}},
                "launch": {
                    "command": ["/bin/bash", "import.sh"],
                    "environmentVariables": [
                        {"name": "PRODUCTION_REGISTRY", "value": "__PRODUCTION_REGISTRY__"},
                        {"name": "STAGING_REGISTRY_ID", "value": "__STAGING_REGISTRY_ID__"},
                    ],
                    "identity": {"type": "userAssigned", "userAssignedIdentities": ["__MANAGED_IDENTITY__"]},
                },
            }
        ],
    }
