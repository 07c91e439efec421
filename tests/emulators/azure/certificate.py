"""A certificate for 127.0.0.1, and the bundle with which clients trust it and everything that they trusted before."""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi
import trustme


class TrustedAuthority:
    """A certificate authority that lives as long as the tests.

    Args:
        folder: Where the bundle is written.

    Attributes:
        context: For servers.
        environment: Makes requests, urllib3 and the Azure SDKs trust it.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        bundle = folder / "authorities.pem"
        bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(self.context)
        self.environment = {"REQUESTS_CA_BUNDLE": str(bundle), "SSL_CERT_FILE": str(bundle)}
