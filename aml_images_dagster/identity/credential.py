"""Signing in to Azure, once per process, with clear messages for failures."""

from __future__ import annotations

import logging
import os
import threading
import time
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.identity.endpoints import endpoints_of

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.identity import DefaultAzureCredential

    from aml_images_dagster.settings.azure import AzureSettings

# Where no log is configured, Python prints warnings: what azure-identity warns of, our message says in one line.
logging.getLogger("azure.identity").addHandler(logging.NullHandler())

_VARIABLE = "AZURE_TOKEN_CREDENTIALS"
_RENEWED_BEFORE_SECONDS = 300


class Credential:
    """What every Azure SDK takes as its `credential`.

    The kind of sign-in is named by `AZURE_TOKEN_CREDENTIALS`, see azure-identity: probing one after the other is slow,
    and finds an unintended identity. Tokens are kept until shortly before they end, because some kinds, such
    as the Azure CLI's, start a process for every one.

    Args:
        authority: Host of Entra ID; empty leaves it to azure-identity.
        client_id: Of a user-assigned managed identity; empty is the machine's own.
    """

    def __init__(self, authority: str = "", client_id: str = "") -> None:
        self._authority = authority
        self._client_id = client_id
        self._tokens: dict[tuple[str, ...], AccessToken] = {}
        self._lock = threading.Lock()

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """A token. Source: the protocol `azure.core.credentials.TokenCredential`.

        Raises:
            BadInput: It is not known how to sign in.
            Unreachable: It failed.
        """
        with self._lock:
            token = None if options.get("claims") else self._tokens.get(scopes)
            if token is None or token.expires_on - time.time() < _RENEWED_BEFORE_SECONDS:
                token = self._tokens[scopes] = self._ask(*scopes, **options)
            return token

    def found(self, scope: str) -> str:
        """The kind of sign-in, for a check; the raised errors are those of `get_token`."""
        self.get_token(scope)
        return f"signed in by {os.environ[_VARIABLE]}"

    def _ask(self, *scopes: str, **options: Any) -> AccessToken:
        from azure.core.exceptions import AzureError

        try:
            return self._source.get_token(*scopes, **options)
        except AzureError as error:
            raise Unreachable(
                f"not signed in to Azure: {_first_line(error)}",
                where=_VARIABLE,
                hint="A person runs `az login`; a pipeline or a machine needs the identity that the variable names.",
            ) from None

    @cached_property
    def _source(self) -> DefaultAzureCredential:
        from azure.identity import DefaultAzureCredential

        chosen = {"authority": self._authority, "managed_identity_client_id": self._client_id}
        try:
            return DefaultAzureCredential(require_envvar=True, **{name: text for name, text in chosen.items() if text})
        except ValueError as error:
            raise BadInput(
                f"it is not known how to sign in to Azure: {_first_line(error).partition('. ')[0]}",
                where=_VARIABLE,
                hint=f"Set {_VARIABLE} to AzureCliCredential (a person, after `az login`), WorkloadIdentityCredential "
                "(CI, Kubernetes) or ManagedIdentityCredential (a machine in Azure).",
            ) from None


@cache
def shared_credential(authority: str, client_id: str) -> Credential:
    """The same object for the same arguments in the whole process, so that tokens are asked for once."""
    return Credential(authority, client_id)


def credential_for(azure: AzureSettings) -> Credential:
    """The credential of the settings."""
    return shared_credential(endpoints_of(azure).authority, azure.identity_client_id)


def _first_line(error: Exception) -> str:
    """The useful part of messages that list every kind of sign-in that was tried."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    attempts = [line for line in lines if "Credential:" in line]
    return (attempts or lines or [type(error).__name__])[0].partition("Visit https")[0].strip().rstrip(".")
