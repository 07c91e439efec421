"""Settings of vulnerabilities."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import Literal

from pydantic import Field, field_validator

from aml_images_dagster.settings.group import Group, Hours, Pairs, Several


class VulnerabilitySettings(Group):
    """Who is asked for vulnerabilities; what they mean is in policy.yaml."""

    sources: Several[Literal["updates", "trivy", "grype"]] = Field(
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
    scan_hours: Hours = Field(
        default=24,
        gt=0,
        le=24,
        description="Time between two scans of production: all sources are asked about all images that it serves.",
    )
    apt_mirrors: Pairs[Literal["debian", "debian-security", "ubuntu", "ubuntu-ports"]] = Field(
        default_factory=dict,
        description="Mirrors that apt asks, separated by ';': debian=URL;debian-security=URL;ubuntu=URL;"
        "ubuntu-ports=URL; default: those of this machine's apt, else the public ones.",
    )
    apt_keyring: Path | None = Field(
        default=None,
        description="Keyring that has signed what these mirrors serve, where they sign it themselves; default: that of "
        "the distribution.",
    )

    @field_validator("apt_mirrors")
    @classmethod
    def _are_urls(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(url.startswith(("http://", "https://")) for url in value.values()):
            raise ValueError("write it as name=URL;name=URL")
        return value
