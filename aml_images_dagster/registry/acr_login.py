"""Signing in to Azure Container Registry with an identity of Entra ID, without the Azure command line.

Source: https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md. A token of Entra ID is exchanged for one of the
registry, with which engines and other clients sign in like with a password. It is good for three hours at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from aml_images_dagster.engine.interface import RegistryLogin
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.http_session import open_session
from aml_images_dagster.messages import plain_reason
from aml_images_dagster.registry.interface import NoAnswer
from aml_images_dagster.registry.tokens import is_loopback

if TYPE_CHECKING:
    from collections.abc import Collection

    from aml_images_dagster.identity.credential import Credential

TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105 - a name that everybody knows
"""The user name that says that the password is a token."""

_TIMEOUT = (5, 30)


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
