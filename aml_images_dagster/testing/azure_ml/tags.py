"""Tags of jobs. The service finds jobs by the key of a tag and by nothing else, so the keys name the build."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aml_images_dagster.testing.interface import TestJob


def build_key(build: str) -> str:
    """The key that all jobs of a build have, and no others."""
    return f"aml-images-{re.sub(r'[^A-Za-z0-9]', '-', build)}"


def image_key(build: str, image: str) -> str:
    """The key that all jobs of one image of a build have, and no others."""
    return f"{build_key(build)}-{hashlib.sha256(image.encode()).hexdigest()[:8]}"


def tags(job: TestJob) -> dict[str, str]:
    """The tags of a job: four for people, two to be found by."""
    return {
        "build": job.build,
        "image": job.image,
        "scenario": job.scenario.name,
        "commit": job.commit or "unknown",
        build_key(job.build): "build",
        image_key(job.build, job.image): "image",
    }
