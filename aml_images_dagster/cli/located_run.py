"""A job that runs in this process, as a run of the code location: the UI shows it with its job and on its first page.

`dg.execute_job` does the same, but its runs belong to no code location, and there is no public way to name one. What is
private in Dagster here: the origin of a run, and executing one that is there already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from aml_images_dagster.defs.keys import LOCATION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import dagster as dg
    from dagster._core.definitions.reconstruct import ReconstructableJob


def execute_located_job(
    job: ReconstructableJob,
    instance: dg.DagsterInstance,
    assets: Iterable[dg.AssetKey],
    run_config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> None:
    """Run some assets of a job to their end; how that went is in the run.

    Args:
        job: A job of the code location.
        instance: Where the run is recorded.
        assets: Those to materialize.
        run_config: The run's configuration.
        tags: The run's tags, beside those of the job.
    """
    definition = job.get_definition()
    # By its name alone, as workspace.yaml has it: how the code is loaded is not the run's concern.
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), SINGLETON_REPOSITORY_NAME)
    run = instance.create_run_for_job(
        job_def=definition,
        run_config=run_config,
        tags={**definition.run_tags, **tags},
        asset_selection=frozenset(assets),
        job_code_origin=job.get_python_origin(),
        remote_job_origin=repository.get_job_origin(definition.name),
    )
    execute_run(job, run, instance)
