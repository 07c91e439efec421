"""An Azure of a test: an identity, a certificate, Azure Resource Manager, and whatever services a test adds.

Nothing but environment variables leads the factory and the SDKs here.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self, TypeVar

from tests.emulators.azure.acr import Acr
from tests.emulators.azure.arm_registries import ArmRegistries
from tests.emulators.azure.certificate import TrustedAuthority
from tests.emulators.azure.key_vault import KeyVault
from tests.emulators.azure.managed_identity import ManagedIdentity
from tests.emulators.azure.service import AzureService
from tests.trust.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
RESOURCE_GROUP = "images"
MANAGEMENT_AUDIENCE = "https://management.azure.com"

Service = TypeVar("Service", bound=AzureService)


class EmulatedCloud:
    """Everything starts with `with`, on free loopback ports, and is gone after it.

    Args:
        folder: For the bundle of certificates.

    Attributes:
        identity: Gives tokens.
        certificate: For services that a test starts.
        arm: Azure Resource Manager. Providers add their routes.
        staging: The staging registry.
        production: The production registry.
        registries: What Azure Resource Manager knows of them.
        vault: The key vault whose key signs.
        environment: Variables that a process needs; services that are added may add theirs.
    """

    def __init__(self, folder: Path) -> None:
        self._running = ExitStack()
        authority = TrustedAuthority(folder)
        self.certificate = authority.context
        self.identity = ManagedIdentity()
        self.arm = AzureService(self.certificate, self.identity, MANAGEMENT_AUDIENCE)
        self.registries = ArmRegistries(self.arm)
        self.staging, self.production = (
            Acr(name, folder / name, self.certificate, self.identity) for name in ("staging", "production")
        )
        self.registries.registries |= {one.name: one for one in (self.staging, self.production)}
        root = Authority()
        self.vault = KeyVault(self.certificate, self.identity, root.signer())
        self.environment = {
            **authority.environment,
            **self.identity.environment,
            "AML_IMAGES_PROFILE": "azure",
            "AML_IMAGES_AZURE__SUBSCRIPTION_ID": SUBSCRIPTION,
            "AML_IMAGES_AZURE__RESOURCE_GROUP": RESOURCE_GROUP,
            "AML_IMAGES_AZURE__MANAGEMENT_ENDPOINT": self.arm.url,
            "AML_IMAGES_STAGING_REGISTRY": self.staging.host,
            "AML_IMAGES_PRODUCTION_REGISTRY": self.production.host,
            # Their hosts are addresses, so their names can't be read from them.
            "AML_IMAGES_AZURE__STAGING_REGISTRY_ID": self._id_of(self.staging),
            "AML_IMAGES_AZURE__PRODUCTION_REGISTRY_ID": self._id_of(self.production),
            "AML_IMAGES_TRUST__SIGNING_KEY": self.vault.certificate_url,
            "AML_IMAGES_TRUST__SIGNING_CERTIFICATES": str(root.write_root(folder / "root.pem")),
            "AML_IMAGES_TRUST__ROOTS": str(folder / "root.pem"),
        }

    def __enter__(self) -> Self:
        self._running.enter_context(self.identity)
        for service in (self.arm, self.vault, self.staging, self.production):
            self.start(service)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start(self, service: Service) -> Service:
        """Start a service that ends with the cloud."""
        return self._running.enter_context(service)

    def _id_of(self, registry: Acr) -> str:
        return self.registries.resource_id(registry, SUBSCRIPTION, RESOURCE_GROUP)
