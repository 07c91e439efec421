"""Settings of evidence and signatures."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from aml_images_dagster.settings.group import Days, File, Group, Several

Evidence = Literal["signature", "provenance", "sbom"]

_VAULT_CERTIFICATE = re.compile(r"https://[^/?#]+/certificates/[0-9A-Za-z-]+(/[0-9a-f]+)?")


class TrustSettings(Group):
    """Signing images, and what a signature is worth."""

    attach: bool = Field(
        default=True,
        description="Attach SBOM, provenance, test results and a signature to each image that has passed, unless it is "
        "of a pull request.",
    )
    notices: Literal["block", "report"] = Field(
        default="block",
        description="What becomes of a build whose image has other components than the lock of its notices says; "
        "report: it is shown. Folders without a lock are not looked at, and pull requests are never stopped.",
    )
    release_verified: bool | None = Field(
        default=None,
        description="Release only images that verify in staging, as `aml-images verify` does; default: in the profile "
        "azure.",
    )
    signing_key: File[str] = Field(
        default="",
        description="What signs: a PEM file with a private key, a PKCS#12 file (.p12, .pfx), or a certificate in Azure "
        "Key Vault, https://NAME.vault.azure.net/certificates/NAME; default: in the profile local a test key, which "
        "proves nothing.",
    )
    signing_key_password: SecretStr | None = Field(
        default=None, description="Password of the key file. None: it is not encrypted."
    )
    signing_certificates: File[str] = Field(
        default="",
        description="PEM file with the certificates of the signing key that its file or vault lacks, up to the root.",
    )
    signature_days: Days = Field(
        default=0, ge=0, description="Days after which a new signature expires; 0: with its certificate."
    )
    timestamp_url: str = Field(
        default="", description="URL of a timestamp service (RFC 3161) for new signatures; default: none."
    )
    roots: Several[File[str]] = Field(
        default=(),
        description="PEM files with the root certificates that are trusted to name who signs, separated by ';'; "
        "default: in the profile local the test key.",
    )
    identities: Several[str] = Field(
        default=(),
        description="Who may sign, separated by ';': what the subject of the signing certificate must have, e.g. "
        "C=US, ST=WA, O=Contoso, CN=image factory; default: everybody whom a root names.",
    )
    timestamp_roots: Several[File[str]] = Field(
        default=(),
        description="PEM files with the root certificates of trusted timestamp services, separated by ';'.",
    )
    revocation_lists: Several[File[str]] = Field(
        default=(),
        description="Files with revocation lists (CRL, PEM or DER) of those who have issued signing certificates, "
        "separated by ';'; default: nothing is looked up.",
    )
    required: Several[Evidence] = Field(
        default=("signature", "provenance", "sbom"),
        description="What an image must have to be verified, separated by ';': signature, provenance, sbom.",
    )
    builder_id: str = Field(
        default="pkg:generic/aml-images-dagster",
        description="URI that names this factory as the builder in provenance.",
    )

    @field_validator("signing_key")
    @classmethod
    def _is_a_file_or_in_a_vault(cls, value: str) -> str:
        if "://" in value and not _VAULT_CERTIFICATE.fullmatch(value):
            raise ValueError(
                "write a path, or https://NAME.vault.azure.net/certificates/NAME as `az keyvault certificate show "
                "--query id` prints it"
            )
        return value

    @field_validator("timestamp_url")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("write a URL that begins with https:// or http://")
        return value

    @field_validator("builder_id")
    @classmethod
    def _is_a_uri(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", value):
            raise ValueError("write a URI, e.g. https://contoso.example/image-factory")
        return value
