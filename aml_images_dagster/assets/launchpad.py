"""Links into the UI that open the launchpad of a job, filled in: a person looks it over and launches it.

The address is that of the UI's own links of this kind: `…/playground/setup`, with the configuration in the query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import dagster as dg
import yaml

from aml_images_dagster.assets.keys import LOCATION, RELEASE_JOB, RELEASED, ROLL_BACK, ROLLBACK_JOB

if TYPE_CHECKING:
    from collections.abc import Mapping


def release_links(build: str) -> dg.MarkdownMetadataValue:
    """Links that release a build, or show what that would change."""
    dry_run = _launchpad(RELEASE_JOB, RELEASED, {"build": build, "dry_run": True})
    return dg.MetadataValue.md(f"[Dry run]({dry_run}) first, then [release]({_release(build)})")


def release_link(build: str) -> dg.MarkdownMetadataValue:
    """A link that releases a build, after a dry run."""
    return dg.MetadataValue.md(f"[Release]({_release(build)})")


def rollback_link(image: str) -> dg.MarkdownMetadataValue:
    """A link that rolls an image back."""
    link = _launchpad(ROLLBACK_JOB, ROLL_BACK, {"image": image, "to": "", "reason": ""})
    return dg.MetadataValue.md(f"[Roll back]({link})")


def _release(build: str) -> str:
    return _launchpad(RELEASE_JOB, RELEASED, {"build": build, "outside_window": "", "who": ""})


def _launchpad(job: str, op: str, config: Mapping[str, Any]) -> str:
    document = yaml.safe_dump({"ops": {op: {"config": dict(config)}}}, sort_keys=False)
    return f"/locations/{LOCATION}/jobs/{job}/playground/setup?{urlencode({'config': document})}"
