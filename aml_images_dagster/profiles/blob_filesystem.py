"""The file system of adlfs with clear errors: exceptions of Azure's SDK are neither the factory's nor OSErrors."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from adlfs import AzureBlobFileSystem  # type: ignore[import-untyped]
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from fsspec.asyn import sync_wrapper  # type: ignore[import-untyped]

from aml_images_dagster.errors import BadInput
from aml_images_dagster.identity.faults import fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_ROLE = "Storage Blob Data Contributor"

_REQUESTS = ("_info", "_ls", "_find", "_exists", "_isdir", "_isfile", "_mkdir", "_rm", "_rm_file", "_rmdir")
_TRANSFERS = ("_pipe_file", "_cat_file", "_put_file", "_get_file")


def _explained(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(method)
    async def ask(self: AzureBlobFileSystem, path: object, *arguments: Any, **options: Any) -> Any:
        try:
            return await method(self, path, *arguments, **options)
        except (ResourceNotFoundError, ResourceExistsError):
            raise  # adlfs itself makes an OSError of it
        except (AzureError, RuntimeError) as error:
            cause = error.__cause__ if isinstance(error, RuntimeError) else error
            if not isinstance(cause, AzureError):
                raise
            raise fault(cause, f"storage account {self.account_name}", f"for {path}", role=_ROLE) from None

    return ask


class ExplainedBlobs(AzureBlobFileSystem):  # type: ignore[misc]
    """Blobs of a storage account; raises `Unreachable` if it does not answer, or refuses a request.

    Raises:
        BadInput: No account is configured.
    """

    def __init__(self, account_name: str = "", **options: Any) -> None:
        if not account_name:
            raise BadInput(
                "artifacts are in Azure Blob, but no storage account is configured",
                where="azure.storage_account",
                hint="Set AML_IMAGES_AZURE__STORAGE_ACCOUNT to its name.",
            )
        super().__init__(account_name, **options)


for _name in (*_REQUESTS, *_TRANSFERS):
    _method = _explained(getattr(AzureBlobFileSystem, _name))
    setattr(ExplainedBlobs, _name, _method)
    # adlfs has some of these bound to its own methods.
    setattr(ExplainedBlobs, _name.removeprefix("_"), sync_wrapper(_method))
