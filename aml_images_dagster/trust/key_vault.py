"""Signing with a key in Azure Key Vault, which never leaves it.

Two requests of its REST interface, and no SDK: azure-keyvault-certificates and azure-keyvault-keys are two packages for
them. Source: https://learn.microsoft.com/rest/api/keyvault/certificates/get-certificate/get-certificate and
https://learn.microsoft.com/rest/api/keyvault/keys/sign/sign, api-version 7.4.
"""

from __future__ import annotations

from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from cryptography import x509

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.http_session import open_session
from aml_images_dagster.messages import plain_reason
from aml_images_dagster.registry.tokens import is_loopback
from aml_images_dagster.trust.certificates import ordered_chain
from aml_images_dagster.trust.encoding import from_base64, from_base64url, to_base64url
from aml_images_dagster.trust.keys import jws_algorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.identity.credential import Credential

_VERSION = {"api-version": "7.4"}
_TIMEOUT = (10.0, 60.0)
_ROLES = "Key Vault Crypto User and Key Vault Reader"
"""Not Key Vault Certificate User, which may read an exportable private key."""


class KeyVaultSigner:
    """A `Signer` that asks a vault to sign.

    Args:
        certificate_url: Of the certificate, https://NAME.vault.azure.net/certificates/NAME, perhaps with its version.
        credential: The factory's identity.
        scope: What tokens for vaults are asked for with.
        certificates: Those of its issuers, up to the root: a vault has the certificate alone.
    """

    is_test = False

    def __init__(
        self, certificate_url: str, credential: Credential, scope: str, certificates: Sequence[x509.Certificate] = ()
    ) -> None:
        self._url = certificate_url
        self._credential = credential
        self._scope = scope
        self._certificates = certificates
        self._session = open_session(loopback=is_loopback(urlsplit(certificate_url).hostname or ""), repeat=True)

    @cached_property
    def chain(self) -> Sequence[x509.Certificate]:
        """See `Signer`.

        Raises:
            BadInput: The vault has no such certificate, or those of its issuers are missing.
            Unreachable: The vault does not answer or refuses.
        """
        try:
            leaf = x509.load_der_x509_certificate(from_base64(str(self._certificate.get("cer"))))
        except ValueError:
            raise self._not_a_vault() from None
        jws_algorithm(leaf.public_key(), self._url)
        return ordered_chain(leaf.public_key(), [leaf, *self._certificates], self._url)

    def sign(self, algorithm: str, digest: bytes) -> bytes:
        """See `Signer.sign`.

        Raises:
            BadInput: The vault has no such key.
            Unreachable: The vault does not answer or refuses.
        """
        key = self._certificate.get("kid")
        # The token goes to the vault that the settings name, and nowhere else.
        if not isinstance(key, str) or urlsplit(key)[:2] != urlsplit(self._url)[:2]:
            raise self._not_a_vault()
        answer = self._ask("POST", f"{key}/sign", {"alg": algorithm, "value": to_base64url(digest)})
        try:
            return from_base64url(str(answer.get("value")))
        except ValueError:
            raise self._not_a_vault() from None

    @cached_property
    def _certificate(self) -> dict[str, Any]:
        return self._ask("GET", self._url)

    def _ask(self, method: str, url: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        token = self._credential.get_token(self._scope).token
        try:
            answer = self._session.request(
                method,
                url,
                params=_VERSION,
                json=body,
                headers={"Authorization": f"Bearer {token}"},
                timeout=_TIMEOUT,
                allow_redirects=False,
            )
            document = answer.json() if answer.content else {}
        except requests.exceptions.JSONDecodeError:
            raise self._not_a_vault() from None
        except requests.RequestException as error:
            raise Unreachable(
                f"the vault does not answer: {plain_reason(error)}",
                where=self._url,
                hint="Is its name right, and can this machine reach it (firewall, private endpoint)?",
            ) from None
        if answer.status_code != HTTPStatus.OK or not isinstance(document, dict):
            raise self._refusal(answer.status_code, document)
        return document

    def _refusal(self, status: int, document: Any) -> BadInput | Unreachable:
        error = document.get("error") if isinstance(document, dict) else None
        said = f": {error.get('message')}" if isinstance(error, dict) else ""
        if status == HTTPStatus.NOT_FOUND:
            return BadInput(
                f"the vault has no such certificate or key (HTTP 404{said})",
                where=self._url,
                hint="Check trust.signing_key; `az keyvault certificate show --query id` prints it.",
            )
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return Unreachable(
                f"this identity may not sign with the vault's key (HTTP {status}{said})",
                where=self._url,
                hint=f"Give it the roles {_ROLES} there; a new role takes some minutes to be known.",
            )
        return Unreachable(
            f"the vault does not sign (HTTP {status}{said})", where=self._url, hint="Try again, or see the vault's log."
        )

    def _not_a_vault(self) -> Unreachable:
        return Unreachable(
            "the answer is not from a key vault",
            where=self._url,
            hint="Is there a proxy or another server at this address?",
        )
