"""Links into the UI that open a filled-in launchpad for the next action of a person.

The addresses are those of the UI's own links of this kind: `…/playground/setup` opens the launchpad of a job with the
configuration in the query, `/asset-groups~…` the lineage of a selection of assets, with its button "Materialize all".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import dagster as dg
import yaml

from aml_images_dagster.defs.keys import (
    DROP,
    IMPORT_CFG,
    LOCATION,
    RELEASE_JOB,
    RELEASE_JSON,
    RELEASED,
    ROLLBACK,
    ROLLBACK_JOB,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def release_links(build: str) -> dg.MarkdownMetadataValue:
    """Links that release a build, or show what that would change."""
    dry_run = _launchpad(RELEASE_JOB, RELEASED, {"build": build, "dry_run": True})
    return dg.MetadataValue.md(f"[Dry run]({dry_run}) first, then [release]({_release(build)})")


def release_link(build: str) -> dg.MarkdownMetadataValue:
    """A link that releases a build, after a dry run."""
    return dg.MetadataValue.md(f"[Release]({_release(build)})")


def rollback_link(image: str) -> dg.MarkdownMetadataValue:
    """A link that rolls an image back."""
    link = _launchpad(ROLLBACK_JOB, ROLLBACK, {"image": image, "to": "", "reason": ""})
    return dg.MetadataValue.md(f"[Roll back]({link})")


def build_link(images: Collection[str]) -> dg.MarkdownMetadataValue:
    """A link to the chains of some images, where they can be built; their names."""
    if not images:
        return dg.MetadataValue.md("nothing")
    made = (*(f"{image}.*" for image in images), *(key.to_user_string() for key in (RELEASE_JSON, IMPORT_CFG, DROP)))
    chains = " or ".join(f'key:"{key}"' for key in made)
    selection = f'({chains}) and not key:"*.released"'
    return dg.MetadataValue.md(f"[{' '.join(images)}](/asset-groups~{quote(selection, safe='')}/)")


def _release(build: str) -> str:
    return _launchpad(RELEASE_JOB, RELEASED, {"build": build, "outside_window": "", "accept_major": False, "who": ""})


def _launchpad(job: str, op: str, config: Mapping[str, Any]) -> str:
    document = yaml.safe_dump({"ops": {op: {"config": dict(config)}}}, sort_keys=False)
    return f"/locations/{LOCATION}/jobs/{job}/playground/setup?{urlencode({'config': document})}"
