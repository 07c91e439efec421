"""What signs, and whose signatures count, as the settings say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_images_dagster.errors import BadInput
from aml_images_dagster.trust.certificates import parse_identity, read_certificates, read_revocation_lists
from aml_images_dagster.trust.dsse import sign_statement
from aml_images_dagster.trust.keys import laptop_key, laptop_key_file, read_key_file
from aml_images_dagster.trust.notary import Trust, sign
from aml_images_dagster.trust.timestamps import new_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aml_images_dagster.settings import Settings
    from aml_images_dagster.trust.keys import Signer
    from aml_images_dagster.trust.referrers import Artifact, Descriptor


def signer_of(settings: Settings) -> Signer:
    """What signs.

    Raises:
        BadInput: It is not configured, or its files cannot be read.
    """
    trust = settings.trust
    certificates = read_certificates(_path(settings, name) for name in filter(None, (trust.signing_certificates,)))
    if "://" in trust.signing_key:
        from aml_images_dagster.identity.credential import credential_for
        from aml_images_dagster.identity.endpoints import endpoints_of
        from aml_images_dagster.trust.key_vault import KeyVaultSigner

        scope = endpoints_of(settings.azure).vault_scope
        return KeyVaultSigner(trust.signing_key, credential_for(settings.azure), scope, certificates)
    if trust.signing_key:
        password = trust.signing_key_password
        return read_key_file(
            _path(settings, trust.signing_key), password.get_secret_value() if password else None, certificates
        )
    if settings.profile != "local":
        raise BadInput(
            "it is not configured what signs images",
            where="trust.signing_key",
            hint="Set AML_IMAGES_TRUST__SIGNING_KEY to a certificate in Azure Key Vault or to a key file.",
        )
    return laptop_key(settings.home)


def signs_with_test_key(settings: Settings) -> bool:
    """Whether this machine's test key signs, which proves nothing."""
    return settings.profile == "local" and not settings.trust.signing_key


def trust_of(settings: Settings) -> Trust:
    """Whose signatures count.

    Raises:
        BadInput: That is not configured, or a file cannot be read.
    """
    trust = settings.trust
    roots = [*trust.roots]
    is_test = not roots and signs_with_test_key(settings)
    if is_test:
        laptop_key(settings.home)
        roots = [str(laptop_key_file(settings.home))]
    if not roots:
        raise BadInput(
            "it is not configured whose signatures count",
            where="trust.roots",
            hint="Set AML_IMAGES_TRUST__ROOTS to the PEM file of the root certificate of those who sign.",
        )
    return Trust(
        tuple(read_certificates(_path(settings, name) for name in roots)),
        tuple(map(parse_identity, trust.identities)),
        tuple(read_certificates(_path(settings, name) for name in trust.timestamp_roots)),
        is_test,
        tuple(read_revocation_lists(_path(settings, name) for name in trust.revocation_lists)),
    )


class EvidenceSigner:
    """Makes everything that is attached to an image, signed.

    Args:
        signer: Signs.
        lifetime: After which signatures expire; None: with the certificate.
        timestamp_url: Of the timestamp service; empty: none.
    """

    def __init__(self, signer: Signer, lifetime: timedelta | None = None, timestamp_url: str = "") -> None:
        self.signer = signer
        self._options: dict[str, Any] = {"lifetime": lifetime}
        if timestamp_url:
            self._options["timestamp"] = partial(new_timestamp, url=timestamp_url)

    @classmethod
    def of(cls, settings: Settings) -> EvidenceSigner:
        """The one of the settings.

        Raises:
            BadInput: See `signer_of`.
        """
        trust = settings.trust
        lifetime = timedelta(days=trust.signature_days) if trust.signature_days else None
        return cls(signer_of(settings), lifetime, trust.timestamp_url)

    def sign(self, target: Descriptor) -> Artifact:
        """The signature of an image or of another manifest.

        Raises:
            BadInput: See `notary.sign`.
            Unreachable: See `notary.sign`.
        """
        return sign(target, self.signer, now=datetime.now(UTC), **self._options)

    def evidence(
        self, image: Descriptor, documents: Sequence[Artifact], statements: Sequence[Mapping[str, Any]]
    ) -> list[Artifact]:
        """All evidence of an image, ready to be attached in one step.

        Args:
            image: The image.
            documents: Such as SBOMs; each gets a signature of its own.
            statements: Such as provenance; each becomes a signed bundle.

        Returns:
            The documents, the statements, and last the signature of the image.
        """
        signed = [replace(each, attached=(*each.attached, self.sign(descriptor_of(each, image)))) for each in documents]
        return [*signed, *(sign_statement(each, self.signer) for each in statements), self.sign(image)]


def descriptor_of(artifact: Artifact, image: Descriptor) -> Descriptor:
    """What names the manifest of an artifact that is attached to an image."""
    manifest = artifact.manifest(image)
    return replace(image, media_type=manifest.media_type, digest=manifest.digest, size=len(manifest.body))


def _path(settings: Settings, name: str) -> Path:
    return settings.repo / Path(name).expanduser()
