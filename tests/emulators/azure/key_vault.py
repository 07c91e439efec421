"""A key vault: a certificate and its key, which can be asked to sign and never leaves.

Source: https://learn.microsoft.com/rest/api/keyvault/certificates/get-certificate/get-certificate and
https://learn.microsoft.com/rest/api/keyvault/keys/sign/sign.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from tests.emulators.azure.http_messages import Answer
from tests.emulators.azure.service import AzureService

if TYPE_CHECKING:
    import ssl

    from aml_images_dagster.trust.keys import KeySigner
    from tests.emulators.azure.http_messages import Request
    from tests.emulators.azure.managed_identity import ManagedIdentity

AUDIENCE = "https://vault.azure.net"
VERSION = "0123456789abcdef0123456789abcdef"
_ALGORITHMS = {"PS256", "PS384", "PS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}
_DIGEST_BYTES = {"256": 32, "384": 48, "512": 64}


class KeyVault(AzureService):
    """A vault.

    Args:
        certificate: See `AzureService`.
        identity: See `AzureService`.
        signer: Its key and certificate, by the name `images`.
    """

    def __init__(self, certificate: ssl.SSLContext, identity: ManagedIdentity, signer: KeySigner) -> None:
        super().__init__(certificate, identity, AUDIENCE)
        self._signer = signer
        self.route("GET", rf"/certificates/images(/{VERSION})?", self._certificate)
        self.route("POST", rf"/keys/images/{VERSION}/sign", self._sign)

    @property
    def certificate_url(self) -> str:
        """Of the certificate, without its version."""
        return f"{self.url}/certificates/images"

    def _certificate(self, request: Request) -> Answer:
        refusal = self._of_version(request)
        der = self._signer.chain[0].public_bytes(serialization.Encoding.DER)
        return refusal or Answer(
            document={
                "id": f"{self.url}/certificates/images/{VERSION}",
                "kid": f"{self.url}/keys/images/{VERSION}",
                "cer": base64.b64encode(der).decode(),
                "attributes": {"enabled": True},
            }
        )

    def _sign(self, request: Request) -> Answer:
        asked = request.json()
        digest = base64.urlsafe_b64decode(asked["value"] + "=" * (-len(asked["value"]) % 4))
        if asked["alg"] not in _ALGORITHMS or len(digest) != _DIGEST_BYTES[asked["alg"][2:]]:
            return self.error(400, "BadParameter", "The algorithm or the length of the digest is wrong.")
        signature = base64.urlsafe_b64encode(self._signer.sign(asked["alg"], digest)).rstrip(b"=").decode()
        return self._of_version(request) or Answer(
            document={"kid": f"{self.url}/keys/images/{VERSION}", "value": signature}
        )

    def _of_version(self, request: Request) -> Answer | None:
        if request.query.get("api-version") != "7.4":
            return self.error(400, "BadParameter", "The api-version is missing or not known.")
        return None
