"""Artifacts in Azure Blob: `az://container/prefix`, by universal-pathlib and adlfs, with the factory's identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsspec import register_implementation  # type: ignore[import-untyped]

from aml_images_dagster.builds.artifacts import ATOMIC_STORES, Artifacts
from aml_images_dagster.checks import Check
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.identity.credential import Credential
    from aml_images_dagster.identity.endpoints import Endpoints
    from aml_images_dagster.settings import Settings


def artifacts_on_disk(settings: Settings) -> Artifacts:
    """The artifacts store of the settings where nothing signs in to Azure.

    Raises:
        BadInput: It is in Azure Blob.
    """
    if _is_blob(settings.artifacts_uri):
        raise BadInput(
            f"artifacts in Azure Blob need the profile azure, not {settings.profile}",
            where=f"artifacts: {settings.artifacts_uri}",
            hint="Set AML_IMAGES_PROFILE to azure and AML_IMAGES_AZURE__STORAGE_ACCOUNT to the account's name, "
            "or name a folder.",
        )
    return Artifacts(settings.artifacts_uri)


def artifacts_of(settings: Settings, credential: Credential, endpoints: Endpoints) -> Artifacts:
    """The artifacts store of the settings, in Azure Blob or wherever else it is.

    A store of which the account is not configured raises `BadInput` when it is first used.
    """
    uri, account = settings.artifacts_uri, settings.azure.storage_account
    if not _is_blob(uri):
        return Artifacts(uri)
    host = account if "." in account else f"{account}.{endpoints.blobs}"
    options = {
        "account_name": host.partition(".")[0],
        "account_host": host,
        "credential": credential,
        # Without that a list stays as it was when this process read it first, whatever others write.
        "use_listings_cache": False,
    }
    for protocol in ATOMIC_STORES:
        # By name: the SDK is imported when a file is asked for.
        register_implementation(protocol, f"{__package__}.blob_filesystem.ExplainedBlobs", clobber=True)
    return Artifacts(uri, options)


def blob_checks(settings: Settings, artifacts: Artifacts) -> tuple[Check, ...]:
    """Whether the container exists and is accessible; no checks for artifacts that are elsewhere."""
    if artifacts.root.protocol not in ATOMIC_STORES:
        return ()
    return (Check("storage account", lambda: _found(settings.azure.storage_account, artifacts), before_build=True),)


def _is_blob(uri: str) -> bool:
    return uri.startswith(tuple(f"{protocol}://" for protocol in ATOMIC_STORES))


def _found(account: str, artifacts: Artifacts) -> str:
    root = artifacts.root
    container, where = root.path.partition("/")[0], f"storage account {account}"
    try:
        root.fs.info(container)
    except FileNotFoundError:
        raise BadInput(
            f"there is no container {container!r}",
            where=where,
            hint=f"Create it, or correct the setting artifacts: {root}.",
        ) from None
    return f"{account}, container {container}"
