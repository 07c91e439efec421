"""Settings of upstream."""

from __future__ import annotations

from pydantic import Field

from aml_images_dagster.settings.group import Group


class UpstreamSettings(Group):
    """Builds that a changed external base starts."""

    interval_seconds: int = Field(
        default=300, ge=5, description="How often registries are asked for the digests of external bases."
    )
    batch_minutes: float = Field(
        default=30,
        ge=0,
        description="How long after a base has changed its build starts; what else changes meanwhile goes along.",
    )
    retry_minutes: float = Field(
        default=30, gt=0, description="Wait after a failed build of a changed base; doubled after each further failure."
    )
    pause_after_failures: int = Field(
        default=3, ge=1, description="Failed builds after which a changed base is left alone until a person resumes it."
    )
