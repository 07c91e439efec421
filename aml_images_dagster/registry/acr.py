"""Azure Container Registry.

Manifests and blobs are read and written by the OCI protocol (`oci.py`): ACR speaks it like any registry, and the SDK's
functions for them know fewer media types and hold whole layers in memory. Listing, untagging and deleting are the
SDK's (azure-containerregistry): these are ACR's own interface. It swallows "not found" of what it deletes, so
every deletion is verified by reading.

Signing in needs no Azure command line: a token of Entra ID is exchanged for one of the registry, with which engines and
other clients sign in like with a password. It is good for three hours at most.
Source: https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from typing_extensions import override

from aml_images_dagster.engine.interface import RegistryLogin
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.http_session import open_session
from aml_images_dagster.identity.faults import TIMEOUTS, explained
from aml_images_dagster.messages import plain_reason
from aml_images_dagster.registry.interface import NoAnswer
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.tokens import is_loopback

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from contextlib import AbstractContextManager

    from azure.containerregistry import ContainerRegistryClient

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.engine.interface import LoginFor
    from aml_images_dagster.identity.credential import Credential

_PAGE = 100
_MOST_NAMES = 100_000
_ROLES = "AcrPush and AcrDelete"
TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105 - a name that everybody knows
"""The user name that says that the password is a token."""

_TIMEOUT = (5, 30)


class AcrRegistry(OciRegistry):
    """A `Registry` of Azure.

    Args:
        host: E.g. `contoso.azurecr.io`.
        credential: The factory's identity.
        audience: What tokens for registries are given for.
        login_for: Gives logins for the OCI protocol.
        roles: What an identity needs to be allowed what is asked here, for messages.
        setting: The setting that names the host, for messages.
    """

    def __init__(
        self,
        host: str,
        credential: Credential,
        audience: str,
        login_for: LoginFor,
        *,
        roles: str = _ROLES,
        setting: str = "",
    ) -> None:
        super().__init__(host, lambda: login_for(host), insecure=False, setting=setting)
        self._credential = credential
        self._audience = audience
        self._roles = roles

    @override
    def repositories(self) -> Sequence[str]:
        with self._explained("for its repositories"), self._client() as client:
            return self._listed(client.list_repository_names(results_per_page=_PAGE), "for its repositories")

    def _all_tags(self, repository: str) -> Sequence[str]:
        from azure.core.exceptions import ResourceNotFoundError

        with self._explained(f"for the tags of {repository}"), self._client() as client:
            try:
                tags = client.list_tag_properties(repository, results_per_page=_PAGE)
                return self._listed((tag.name for tag in tags), f"for the tags of {repository}")
            except ResourceNotFoundError:
                return []

    def untag(self, reference: Reference) -> None:
        """See `Registry.untag`.

        Raises:
            BadInput: The reference names a digest.
        """
        if reference.digest:
            raise BadInput("a digest is not a tag", where=str(reference), hint="Name the tag to remove.")
        with self._explained(f"to remove the tag {reference}"), self._client() as client:
            client.delete_tag(reference.repository, reference.version)
        self._must_be_gone(reference)

    def delete(self, reference: Reference) -> None:
        """See `Registry.delete`. A tag points to the digest behind it."""
        digest = self._named(reference)
        if digest is None:
            return
        with self._explained(f"to delete {reference}"), self._client() as client:
            client.delete_manifest(reference.repository, digest)
        self._must_be_gone(reference.with_digest(digest))

    def _listed(self, names: Iterable[str], what: str) -> list[str]:
        """All names of a list. The SDK follows its pages wherever they lead, and reads them without a look."""
        found: dict[str, None] = {}
        try:
            for name in names:
                if name in found or len(found) == _MOST_NAMES:
                    raise self._not_a_registry(what, " (its pages lead in a circle)")
                found[name] = None
        except (AttributeError, LookupError, TypeError, ValueError) as fault:
            raise self._not_a_registry(what, f" ({type(fault).__name__})") from None
        if not all(isinstance(name, str) for name in found):
            raise self._not_a_registry(what)
        return list(found)

    def _must_be_gone(self, reference: Reference) -> None:
        left = self.digest(reference)
        if left is not None:
            raise Unreachable(
                f"the registry said that it deleted this but still serves {left}",
                where=str(reference),
                hint="Something else pushed it at the same time, or it is locked (`az acr repository show`).",
            )

    def _client(self) -> ContainerRegistryClient:
        """A new client for every call: the SDK's cache of tokens uses those that are about to end."""
        from azure.containerregistry import ContainerRegistryClient

        return ContainerRegistryClient(self.url, self._credential, audience=self._audience, **TIMEOUTS)

    def _explained(self, asking: str) -> AbstractContextManager[None]:
        return explained(self.host, asking, role=self._roles)

    def _refusal(self, answer: requests.Response, what: str) -> Unreachable:
        refusal = super()._refusal(answer, what)
        if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            refusal.hint = (
                f"Give this identity the roles {self._roles} there; a new role takes some minutes to be known."
            )
        return refusal


class AcrLogins:
    """Gives logins for registries; each is fresh, so that none ends within a long build.

    Args:
        credential: The factory's identity.
        scope: What tokens for registries are asked for with.
        hosts: The registries that this identity is for; no other host ever sees a token.
    """

    def __init__(self, credential: Credential, scope: str, hosts: Collection[str]) -> None:
        self._credential = credential
        self._scope = scope
        self._hosts = frozenset(hosts)

    def __call__(self, host: str) -> RegistryLogin | None:
        """A login, or None for a registry that is not ours.

        Raises:
            BadInput: It is not known how to sign in.
            Unreachable: The registry does not answer, or does not let this identity in.
        """
        if host not in self._hosts:
            return None
        token = self._credential.get_token(self._scope).token
        with open_session(loopback=is_loopback(urlsplit(f"//{host}").hostname or ""), repeat=True) as session:
            try:
                answer = session.post(
                    f"https://{host}/oauth2/exchange",
                    data={"grant_type": "access_token", "service": host, "access_token": token},
                    timeout=_TIMEOUT,
                    allow_redirects=False,  # another host would be given the identity's token
                )
            except requests.RequestException as error:
                raise NoAnswer(
                    f"asked to sign in, the registry does not answer: {plain_reason(error)}",
                    where=host,
                    hint="Is the name right (staging_registry, production_registry), and can this machine reach it "
                    "(proxy, firewall, private endpoint)?",
                ) from None
        return RegistryLogin(TOKEN_USER, _refresh_token(host, answer))


def _refresh_token(host: str, answer: requests.Response) -> str:
    if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
        raise Unreachable(
            f"the registry does not know this identity (HTTP {answer.status_code})",
            where=host,
            hint="Give it the roles AcrPush and AcrDelete there; a new role takes some minutes to be known.",
        )
    try:
        answer.raise_for_status()
        return str(answer.json()["refresh_token"])
    except (requests.RequestException, ValueError, KeyError, TypeError, RecursionError):
        raise Unreachable(
            f"asked to sign in, the registry answered {answer.status_code} without a token",
            where=host,
            hint="Is it an Azure Container Registry? If so, try again in some minutes.",
        ) from None
