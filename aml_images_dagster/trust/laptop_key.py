"""A key for trying things on one machine. Whoever can read its file can sign as well, so it proves nothing."""

from __future__ import annotations

import contextlib
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aml_images_dagster.errors import refused_by_system
from aml_images_dagster.trust.keys import KeySigner, read_key_file

WARNING = "signed with this machine's test key, which proves nothing"
_FILE = Path("trust", "test-key.pem")
_DAYS = 3650
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def laptop_key_file(home: Path) -> Path:
    """Where the test key and its certificate are, in the folder that keeps state."""
    return home / _FILE


def laptop_key(home: Path) -> KeySigner:
    """The test key of this machine, made the first time that it is asked for. Only its owner can read the file.

    Raises:
        BadInput: The file cannot be written or read.
    """
    path = laptop_key_file(home)
    if not path.exists():
        try:
            _create(path)
        except OSError as error:
            raise refused_by_system(error) from None
    held = read_key_file(path, None)
    held.is_test = True
    return held


def _create(path: Path) -> None:
    """Write the file whole; the first of several processes that do so at once counts."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            file.write(_certificate(key).public_bytes(serialization.Encoding.PEM))
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """One that signs itself, with the names that the trust policy of `notation` asks for."""
    now = datetime.now(UTC)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "ZZ"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "none"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "aml-images"),
            x509.NameAttribute(NameOID.COMMON_NAME, "test key that proves nothing"),
        ]
    )
    usage = x509.KeyUsage(**{name: name == "digital_signature" for name in _USAGES})
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .sign(key, hashes.SHA256())
    )
