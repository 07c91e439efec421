"""Settings of vulnerabilities."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from aml_images_dagster.settings.group import Group


class VulnerabilitySettings(Group):
    """Who is asked for vulnerabilities; what they mean is in policy.yaml."""

    sources: Annotated[tuple[Literal["updates", "trivy", "grype"], ...], NoDecode] = Field(
        default=("updates",),
        description="Who looks, separated by ';': updates (security updates of Debian and Ubuntu, asked of apt), and "
        "the scanners trivy and grype on PATH.",
    )
    patch_within_days: int = Field(
        default=30,
        ge=1,
        le=365,
        description="Days after a fix became available in which production is to serve an image that has it.",
    )
    scan_hours: float = Field(
        default=24,
        gt=0,
        le=24,
        description="Time between two scans of production: all sources are asked about all images that it serves.",
    )
    apt_mirrors: Annotated[dict[Literal["debian", "debian-security", "ubuntu"], str], NoDecode] = Field(
        default_factory=dict,
        description="Mirrors that apt asks, separated by ';': debian=URL;debian-security=URL;ubuntu=URL; default: "
        "those of this machine's apt, else the public ones.",
    )
    apt_keyring: Path | None = Field(
        default=None,
        description="Keyring that has signed what these mirrors serve, where they sign it themselves; default: that of "
        "the distribution.",
    )

    @field_validator("sources", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(";")))) if isinstance(value, str) else value

    @field_validator("apt_mirrors", mode="before")
    @classmethod
    def _split_pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(";") if pair.strip()]
        if not all(name.strip() and url.strip().startswith(("http://", "https://")) for name, _, url in pairs):
            raise ValueError("write it as name=URL;name=URL")
        return {name.strip(): url.strip() for name, _, url in pairs}
