"""Settings of the profile `azure`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from aml_images_dagster.settings.group import Group, Minutes, Seconds

_REGISTRY_ID = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ContainerRegistry/registries/[^/]+", re.IGNORECASE
)


class AzureSettings(Group):
    """The profile `azure`: where things are in Azure. Names and ids only, never a secret."""

    cloud: Literal["public", "us-government", "china"] = Field(default="public", description="The Azure cloud.")
    management_endpoint: str = Field(
        default="", description="URL of Azure Resource Manager; default: that of the cloud."
    )
    identity_client_id: str = Field(
        default="", description="Client id of a user-assigned managed identity; default: the machine's own."
    )
    subscription_id: str = Field(default="", description="Id of the subscription of workspace and registries.")
    resource_group: str = Field(default="", description="Resource group of workspace and registries.")
    workspace: str = Field(default="", description="Name of the Azure ML workspace that runs the tests.")
    compute: str = Field(default="", description="Compute for tests whose tests.json names none.")
    storage_account: str = Field(
        default="", description="Account of artifacts in Azure Blob (az://container/prefix): its name, or its host."
    )
    job_poll_seconds: Seconds = Field(
        default=10, gt=0, description="Time between two polls of running jobs, in seconds."
    )
    job_queue_minutes: Minutes = Field(
        default=60, gt=0, description="How long a job may wait for machines and its image, in minutes."
    )
    job_silent_minutes: Minutes = Field(
        default=10, gt=0, description="How long a job may be paused or not respond before it is canceled, in minutes."
    )
    job_cancel_seconds: Seconds = Field(
        default=120, gt=0, description="How long a canceled job may take to end, in seconds."
    )
    staging_registry_id: str = Field(
        default="", description="Resource id of the staging registry; default: by its host, in resource_group."
    )
    production_registry_id: str = Field(
        default="", description="Resource id of the production registry; default: by its host, in resource_group."
    )
    linux_builder: Literal["engine", "acr-tasks"] = Field(
        default="engine", description="What builds Linux images: the Docker engine, or ACR Tasks of staging_registry."
    )
    windows_builder: Literal["engine", "acr-tasks"] = Field(
        default="engine",
        description="What builds Windows images: the engine of windows_docker_host, or ACR Tasks of staging_registry.",
    )
    task_agent_pool: str = Field(default="", description="Pool of agents for ACR Tasks; default: the shared agents.")
    task_buildx: str = Field(
        default="",
        description="Image whose entry point is buildx, for Linux builds by ACR Tasks with the BuildKit of their "
        "agents (docs/azure.md); default: none, the classic builder builds.",
    )
    task_poll_seconds: Seconds = Field(
        default=5, gt=0, description="Time between two polls of a run of ACR Tasks, in seconds."
    )
    import_by: Literal["identity", "password"] = Field(
        default="identity",
        description="How production pulls from staging: as the identity that imports, or by the account that "
        "STAGING_CLIENT_ID and STAGING_CLIENT_SECRET name.",
    )
    import_timeout_minutes: Minutes = Field(default=60, gt=0, description="Time limit for importing one image.")

    @field_validator("staging_registry_id", "production_registry_id")
    @classmethod
    def _is_a_registry(cls, value: str) -> str:
        if value and not _REGISTRY_ID.fullmatch(value):
            raise ValueError(
                "write it as /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.ContainerRegistry"
                "/registries/<name>; `az acr show --query id` prints it"
            )
        return value

    @field_validator("management_endpoint")
    @classmethod
    def _is_https(cls, value: str) -> str:
        if value and not value.startswith("https://"):
            raise ValueError("write a URL that begins with https://")
        return value.rstrip("/")
