"""A certificate authority of the tests, whose certificates are what the Notary Project asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aml_images_dagster.trust.keys import KeySigner

if TYPE_CHECKING:
    from pathlib import Path

USAGES = (
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
KEYS = {
    "ec-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
}


def usage(*names: str, critical: bool = True) -> tuple[x509.KeyUsage, bool]:
    return x509.KeyUsage(**{name: name in names for name in USAGES}), critical


def subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "WA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Contoso"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def certify(name, public_key, issuer, issuer_key, *extensions, start=None, days=30.0) -> x509.Certificate:
    start = start or datetime.now(UTC) - timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA384())


LEAF = (
    (x509.BasicConstraints(ca=False, path_length=None), False),
    usage("digital_signature"),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
)


class Authority:
    """A root, and leaves that it issues.

    Attributes:
        root: Its certificate.
    """

    def __init__(self, name: str = "test root", days: float = 3650) -> None:
        self._key = ec.generate_private_key(ec.SECP384R1())
        self.root = certify(
            subject(name),
            self._key.public_key(),
            subject(name),
            self._key,
            (x509.BasicConstraints(ca=True, path_length=1), True),
            usage("key_cert_sign", "crl_sign"),
            days=days,
            start=datetime.now(UTC) - timedelta(days=1000),
        )

    def signer(
        self, kind: str = "ec-p256", name: str = "image factory", extensions: Any = LEAF, **dates: Any
    ) -> KeySigner:
        """A key with a certificate."""
        key = KEYS[kind]()
        leaf = certify(subject(name), key.public_key(), self.root.subject, self._key, *extensions, **dates)
        return KeySigner(key, (leaf, self.root))

    def revoke(
        self,
        *signers: KeySigner,
        last: datetime | None = None,
        following: datetime | None = None,
        extensions: Any = (),
        of_list: Any = (),
    ) -> x509.CertificateRevocationList:
        """Its list of revoked certificates; the extensions are of each entry, and of the list."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.root.subject)
            .last_update(last or now - timedelta(hours=1))
            .next_update(following or now + timedelta(days=1))
        )
        for extension, critical in of_list:
            builder = builder.add_extension(extension, critical)
        for signer in signers:
            serial = signer.chain[0].serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - timedelta(hours=1))
            for extension in extensions:
                entry = entry.add_extension(extension, critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA384())

    def write_root(self, path: Path) -> Path:
        path.write_bytes(pem(self.root))
        return path


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def public_pem(signer: KeySigner) -> bytes:
    return (
        signer.chain[0]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def key_pem(signer: KeySigner, password: str = "") -> bytes:
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return signer._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def key_pkcs12(signer: KeySigner, password: str) -> bytes:
    leaf, *others = signer.chain
    encryption = serialization.BestAvailableEncryption(password.encode())
    return pkcs12.serialize_key_and_certificates(b"signing", signer._key, leaf, others, encryption)
