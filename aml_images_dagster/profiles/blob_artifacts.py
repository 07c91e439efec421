"""Artifacts in Azure Blob: `az://container/prefix`, by universal-pathlib and adlfs, as who we are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.build.artifacts import Artifacts
from aml_images_dagster.errors import BadInput
from aml_images_dagster.identity.faults import explained

if TYPE_CHECKING:
    from aml_images_dagster.identity.credential import Credential
    from aml_images_dagster.identity.endpoints import Endpoints
    from aml_images_dagster.settings import Settings

_PROTOCOLS = ("az", "abfs", "abfss")
_ROLE = "Storage Blob Data Contributor"


def artifacts_of(settings: Settings, credential: Credential, endpoints: Endpoints) -> Artifacts:
    """The artifacts store of the settings, in Azure Blob or wherever else it is."""
    uri, account = settings.artifacts_uri, settings.azure.storage_account
    if not uri.startswith(tuple(f"{protocol}://" for protocol in _PROTOCOLS)):
        return Artifacts(uri)
    host = account if "." in account else f"{account}.{endpoints.blobs}"
    options = {
        "account_name": host.partition(".")[0],
        "account_host": host,
        "credential": credential,
        # Without that a list stays as it was when this process read it first, whatever others write.
        "use_listings_cache": False,
    }
    return Artifacts(uri, options)


def artifacts_found(settings: Settings, artifacts: Artifacts) -> str:
    """The store, after a look whether it is there and lets us in.

    Raises:
        BadInput: The account is not set, or there is no such container.
        Unreachable: It does not answer, or refuses us.
    """
    root = artifacts.root
    if root.protocol not in _PROTOCOLS:
        return settings.artifacts_uri
    if not settings.azure.storage_account:
        raise BadInput(
            f"artifacts are {settings.artifacts_uri}, and it is not said in which storage account",
            where="azure.storage_account",
            mend="Set AML_IMAGES_AZURE__STORAGE_ACCOUNT to its name.",
        )
    container = root.path.partition("/")[0]
    where = f"storage account {settings.azure.storage_account}"
    with explained(where, f"for the container {container}", role=_ROLE):
        if not root.fs.exists(container):
            raise BadInput(
                f"there is no container {container!r}",
                where=where,
                mend=f"Create it, or correct the setting artifacts: {settings.artifacts_uri}.",
            )
        list(artifacts.folders())
    return f"{root} in {where}"
