"""What Azure Resource Manager knows of container registries: what they are, and `importImage`, which really copies.

Source: https://learn.microsoft.com/rest/api/container-registry/registries/import-image, api-version 2025-11-01.
"""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.registry.copy import copy_image
from tests.emulators.azure.http_messages import Answer, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.emulators.azure.acr import Acr
    from tests.emulators.azure.service import AzureService

REGISTRY = (
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.ContainerRegistry/registries/(?P<name>[^/]+)"
)


class ArmRegistries:
    """The provider `Microsoft.ContainerRegistry`.

    Args:
        arm: Azure Resource Manager.

    Attributes:
        registries: By name.
        before_copy: Called when a request was looked at and before anything is copied.
        held: While it is not set, imports do not go on.
    """

    def __init__(self, arm: AzureService) -> None:
        self.registries: dict[str, Acr] = {}
        self.before_copy: Callable[[], object] = lambda: None
        self.held = threading.Event()
        self.held.set()
        self._arm = arm
        self._operations: dict[str, Answer | None] = {}
        arm.route("GET", REGISTRY, self._describe)
        arm.route("POST", f"{REGISTRY}/importImage", self._import)
        arm.route("GET", r"/operations/(?P<operation>[^/]+)", self._operation)

    def resource_id(self, registry: Acr, subscription: str, group: str) -> str:
        """The id under which a registry is known."""
        return (
            f"/subscriptions/{subscription}/resourceGroups/{group}"
            f"/providers/Microsoft.ContainerRegistry/registries/{registry.name}"
        )

    def _describe(self, request: Request, subscription: str, group: str, name: str) -> Answer:
        registry = self.registries.get(name)
        if registry is None:
            return self._unknown(name)
        document = {"id": self.resource_id(registry, subscription, group), "name": name, "location": "eastus"}
        properties = {"loginServer": registry.host, "provisioningState": "Succeeded"}
        return Answer(document={**document, "sku": {"name": "Premium", "tier": "Premium"}, "properties": properties})

    def _import(self, request: Request, subscription: str, group: str, name: str) -> Answer:
        target = self.registries.get(name)
        if target is None:
            return self._unknown(name)
        if not request.json()["source"]["sourceImage"]:
            return self._arm.error(400, "InvalidParameters", "sourceImage is not specified.")
        operation = uuid.uuid4().hex
        self._operations[operation] = None

        def work() -> None:
            self._operations[operation] = self._copy(target, request.json())

        threading.Thread(target=work, daemon=True).start()
        location = f"{self._arm.url}/operations/{operation}?api-version=2025-11-01"
        return Answer(202, headers={"Location": location, "Retry-After": "1"})

    def _operation(self, request: Request, operation: str) -> Answer:
        return self._operations[operation] or Answer(202, headers={"Location": self._arm.url + request.target})

    def _unknown(self, name: str) -> Answer:
        what = f"The Resource 'Microsoft.ContainerRegistry/registries/{name}' was not found."
        return self._arm.error(404, "ResourceNotFound", what)

    def _copy(self, target: Acr, body: dict[str, Any]) -> Answer:
        source = self._source(body["source"])
        if source is None:
            return self._arm.error(401, "Unauthorized", "Operation failed. Unauthorized: authentication required.")
        repository, _, digest = body["source"]["sourceImage"].partition("@")
        tags = [tag.rpartition(":") for tag in body.get("targetTags", ())]
        self.before_copy()
        if body.get("mode", "NoForce") == "NoForce":
            for name, _, tag in tags:
                if target.plain.digest(Reference(target.plain.host, name, tag)):
                    return self._arm.error(409, "Conflict", f"Tag {name}:{tag} already exists in target registry.")
        self.held.wait(30)
        try:
            for name, _, tag in tags:
                image = Reference(source.plain.host, repository, digest=digest)
                copy_image(source.plain, target.plain, image, name, [tag])
            for name in body.get("untaggedTargetRepositories", ()):
                manifest = Reference(source.plain.host, repository, digest=digest)
                copy_image(source.plain, target.plain, manifest, name)
                target.referrers.remember(name, source.plain.existing(manifest).body)
        except FactoryError:
            return self._arm.error(404, "ManifestUnknown", f"manifest {digest} is not found")
        return Answer(200)

    def _source(self, source: dict[str, Any]) -> Acr | None:
        """The registry that is named, if who asks may pull from it."""
        if "resourceId" in source:
            registry = self.registries.get(source["resourceId"].rpartition("/")[2])
            return registry if registry and registry.known and "pull" in registry.allowed else None
        registry = next((one for one in self.registries.values() if one.host == source["registryUri"]), None)
        given = source.get("credentials") or {}
        may = registry and registry.lets_in(given.get("username", ""), given.get("password", ""))
        return registry if may else None
