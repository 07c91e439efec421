"""Settings of upstream."""

from __future__ import annotations

from pydantic import Field

from aml_images_dagster.settings.group import Group


class UpstreamSettings(Group):
    """Builds that a changed external base starts."""

    interval_seconds: int = Field(
        default=300, ge=5, description="Time between two polls of the digests of external bases, in seconds."
    )
    batch_minutes: float = Field(
        default=30,
        ge=0,
        description="How long to collect changes of bases before their build starts.",
    )
    retry_minutes: float = Field(
        default=30, gt=0, description="Wait after a failed build of a changed base; doubled after each further failure."
    )
    pause_after_failures: int = Field(
        default=3, ge=1, description="Failed builds after which a changed base is paused until a person resumes it."
    )
