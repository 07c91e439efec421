"""A timestamp service: openssl's own answers, over HTTP."""

from __future__ import annotations

import subprocess
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.emulators.served import Served
from tests.trust.authority import certify, pem, subject, usage

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG = """
[tsa]
default_tsa = service
[service]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
ess_cert_id_chain = yes
"""


class TimestampService(Served):
    """It answers what `openssl ts` answers.

    Args:
        folder: For its files.

    Attributes:
        root: Its root certificate.
        url: Where it is asked.
        answer: What it says in place of an answer; None lets openssl answer.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        key, root_key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        start = datetime.now(UTC) - timedelta(days=10)
        self.root = certify(
            subject("timestamp root"),
            root_key.public_key(),
            subject("timestamp root"),
            root_key,
            (x509.BasicConstraints(ca=True, path_length=None), True),
            usage("key_cert_sign", "crl_sign"),
            (x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), False),
            start=start,
            days=3650,
        )
        leaf = certify(
            subject("timestamps"),
            key.public_key(),
            self.root.subject,
            root_key,
            (x509.BasicConstraints(ca=False, path_length=None), True),
            usage("digital_signature"),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False),
            start=start,
            days=3650,
        )
        plain = serialization.NoEncryption()
        (folder / "tsa.key").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        )
        (folder / "tsa.pem").write_bytes(pem(leaf))
        (folder / "serial").write_text("01")
        (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder))
        self.answer: bytes | None = None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def reply(self, query: bytes) -> bytes:
        """The answer to a question."""
        if self.answer is not None:
            return self.answer
        asked, said = self._folder / "query.tsq", self._folder / "reply.tsr"
        with self._lock:
            asked.write_bytes(query)
            words = ("openssl", "ts", "-reply", "-config", self._folder / "tsa.cnf", "-queryfile", asked, "-out", said)
            subprocess.run(words, check=True, capture_output=True, timeout=60)
            return said.read_bytes()


def _handler(service: TimestampService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/timestamp-query"
            body = service.reply(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
