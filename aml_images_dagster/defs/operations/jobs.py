"""Jobs that sensors request to cancel or remove something: one asset, in the run's process, with a time-out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from aml_images_dagster.defs.in_process import in_process_executor

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings

AssetJob = UnresolvedAssetJobDefinition
"""What `dg.define_asset_job` returns; Dagster has no public name for it."""

_LONGEST_SECONDS = 600
"""After which Dagster ends it; the next run continues. A cleanup waits for the end of jobs that it cancels."""


def operations_job(name: str, asset: dg.AssetKey, description: str, settings: Settings) -> AssetJob:
    """The job of an asset that runs independently of builds."""
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(asset),
        description=description,
        executor_def=in_process_executor(settings),
        tags={"dagster/max_runtime": str(_LONGEST_SECONDS)},
    )


def operations_config(asset: dg.AssetKey, **options: Any) -> dict[str, Any]:
    """The run configuration of its asset."""
    return {"ops": {asset.to_python_identifier(): {"config": options}}}
