"""Jobs that sensors request to cancel or remove something: one asset, in the run's process, with a time-out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from aml_images_dagster.builds.process import this_process
from aml_images_dagster.defs.run_state import name_process, process_tag
from aml_images_dagster.instance.heartbeat import beating

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.settings import Settings

AssetJob = UnresolvedAssetJobDefinition
"""What `dg.define_asset_job` returns; Dagster has no public name for it."""

_OF_CLICKS = "__ASSET_JOB"
"""What Dagster calls the job of assets and checks that are chosen in the UI."""
_LONGEST_SECONDS = 600
"""After which Dagster ends it; the next run continues. A cleanup waits for the end of jobs that it cancels."""


def operations_job(name: str, asset: dg.AssetKey, description: str) -> AssetJob:
    """The job of an asset that runs independently of builds."""
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(asset),
        description=description,
        executor_def=dg.in_process_executor,  # it is there sooner
        tags={"dagster/max_runtime": str(_LONGEST_SECONDS)},
    )


@contextmanager
def begun(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, settings: Settings) -> Iterator[None]:
    """Let sensors see that the run is running, as long as its process lives.

    The steps of what people materialize in the UI have processes of their own, and the executor gives signs of life.
    """
    if context.run.job_name == _OF_CLICKS:
        name_process(context.instance, context.run)
        yield
        return
    context.instance.add_run_tags(context.run.run_id, process_tag(context.run, this_process()))
    with beating(context.instance, context.run.run_id, settings.host_patience_seconds):
        yield


def operations_config(asset: dg.AssetKey, **options: Any) -> dict[str, Any]:
    """The run configuration of its asset."""
    return {"ops": {asset.to_python_identifier(): {"config": options}}}
