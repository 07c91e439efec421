"""Keys that sign, their algorithms by the names of JWA, and the test key of one machine.

Source: RFC 7518, 3.3 to 3.5; Notary Project, signature-specification.md, "Signature Algorithm Requirements".
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aml_images_dagster.errors import BadInput, refused_by_system
from aml_images_dagster.trust.certificates import ordered_chain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

_PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_HASHES: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_OF_RSA_BITS = {2048: "256", 3072: "384", 4096: "512"}
_OF_CURVE = {"secp256r1": "256", "secp384r1": "384", "secp521r1": "512"}

TEST_KEY_WARNING = "signed with this machine's test key, which proves nothing"
_TEST_KEY_FILE = Path("trust", "test-key.pem")
_TEST_KEY_DAYS = 3650
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


class Signer(Protocol):
    """Holds a key, or knows who does. It is given a hash and never gives the key."""

    @property
    def chain(self) -> Sequence[x509.Certificate]:
        """The certificate of the key, and those of its issuers up to the root."""

    @property
    def is_test(self) -> bool:
        """Whether it is a test key, which proves nothing."""

    def sign(self, algorithm: str, digest: bytes) -> bytes:
        """Sign a hash.

        Args:
            algorithm: Its name in JWA, e.g. `ES256`.
            digest: The hash that the algorithm asks for, of what is signed.

        Returns:
            The signature as in JWS: of an elliptic curve r and s, one after the other.
        """


class KeySigner:
    """A `Signer` that holds the key itself.

    Args:
        key: The private key.
        chain: See `Signer`.
        is_test: See `Signer`.
    """

    def __init__(self, key: _PrivateKey, chain: Sequence[x509.Certificate], *, is_test: bool = False) -> None:
        self._key = key
        self.chain = tuple(chain)
        self.is_test = is_test

    def sign(self, algorithm: str, digest: bytes) -> bytes:
        """See `Signer.sign`."""
        prehashed = Prehashed(hash_of(algorithm))
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(digest, _padding(algorithm), prehashed)
        r, s = decode_dss_signature(self._key.sign(digest, ec.ECDSA(prehashed)))
        size = _coordinate_bytes(self._key.curve)
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def read_key_file(path: Path, password: str | None, certificates: Sequence[x509.Certificate] = ()) -> KeySigner:
    """A key from a PEM or PKCS#12 file, with its certificates.

    Args:
        path: The file; one that ends with .p12 or .pfx is PKCS#12.
        password: Of the file; None for one that is not encrypted.
        certificates: Those that the file lacks.

    Raises:
        BadInput: The file cannot be read, the password is wrong, certificates are missing, or the Notary Project allows
            no such key.
    """
    where, secret = str(path), password.encode() if password is not None else None
    found: list[x509.Certificate] = [*certificates]
    key: PrivateKeyTypes | None
    try:
        content = path.read_bytes()
        if path.suffix.lower() in (".p12", ".pfx"):
            key, certificate, others = pkcs12.load_key_and_certificates(content, secret)
            found += [*([certificate] if certificate else ()), *others]
        else:
            key = serialization.load_pem_private_key(content, secret)
            if b"-----BEGIN CERTIFICATE-----" in content:
                found += x509.load_pem_x509_certificates(content)
    except OSError as error:
        raise BadInput(
            f"the signing key cannot be read: {error.strerror}", where=where, hint="Check trust.signing_key."
        ) from None
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
    ):  # never what the library says: a password may be in it
        raise BadInput(
            "this is no private key, or its password is missing or wrong",
            where=where,
            hint="It must be a PEM file, or PKCS#12 with the name .p12 or .pfx; the password is "
            "AML_IMAGES_TRUST__SIGNING_KEY_PASSWORD.",
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise BadInput("this kind of key cannot sign images", where=where, hint=_KEYS)
    jws_algorithm(key.public_key(), where)
    return KeySigner(key, ordered_chain(key.public_key(), found, where))


def jws_algorithm(key: PublicKeyTypes, where: str = "") -> str:
    """The one algorithm that the Notary Project allows for a key.

    Raises:
        BadInput: It allows no such key.
    """
    bits = None
    if isinstance(key, rsa.RSAPublicKey):
        bits, kind = _OF_RSA_BITS.get(key.key_size), "PS"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        bits, kind = _OF_CURVE.get(key.curve.name), "ES"
    if bits is None:
        raise BadInput("this kind of key cannot sign images", where=where, hint=_KEYS)
    return f"{kind}{bits}"


_KEYS = "Use an RSA key of 2048, 3072 or 4096 bits, or an EC key on P-256, P-384 or P-521."


def hash_of(algorithm: str) -> hashes.HashAlgorithm:
    """The hash function of an algorithm."""
    return _HASHES[algorithm[2:]]()


def digest_of(algorithm: str, content: bytes) -> bytes:
    """The hash of a content that an algorithm signs."""
    context = hashes.Hash(hash_of(algorithm))
    context.update(content)
    return context.finalize()


def der_signature(signature: bytes) -> bytes:
    """An ECDSA signature of JWS as X.509 and most programs have it."""
    half = len(signature) // 2
    return encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))


def fits(key: PublicKeyTypes, algorithm: str, signature: bytes, content: bytes) -> bool:
    """Whether a signature, as in JWS, is by a key and of a content."""
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm[:2] in ("PS", "RS"):
            key.verify(signature, content, _padding(algorithm), hash_of(algorithm))
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm[:2] == "ES":
            if len(signature) != 2 * _coordinate_bytes(key.curve):
                return False
            key.verify(der_signature(signature), content, ec.ECDSA(hash_of(algorithm)))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _padding(algorithm: str) -> padding.AsymmetricPadding:
    if algorithm.startswith("RS"):
        return padding.PKCS1v15()
    hashed = hash_of(algorithm)
    return padding.PSS(padding.MGF1(hashed), hashed.digest_size)


def _coordinate_bytes(curve: ec.EllipticCurve) -> int:
    return (curve.key_size + 7) // 8


def laptop_key_file(home: Path) -> Path:
    """Where the test key and its certificate are, in the folder that keeps state."""
    return home / _TEST_KEY_FILE


def laptop_key(home: Path) -> KeySigner:
    """The test key of this machine, made the first time that it is asked for.

    Only its owner can read its file. Whoever can read it can sign as well, so it proves nothing.

    Raises:
        BadInput: The file cannot be written or read.
    """
    path = laptop_key_file(home)
    if not path.exists():
        try:
            _create_test_key(path)
        except OSError as error:
            raise refused_by_system(error) from None
    held = read_key_file(path, None)
    held.is_test = True
    return held


def _create_test_key(path: Path) -> None:
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
            file.write(_test_certificate(key).public_bytes(serialization.Encoding.PEM))
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


def _test_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
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
        .not_valid_after(now + timedelta(days=_TEST_KEY_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .sign(key, hashes.SHA256())
    )
