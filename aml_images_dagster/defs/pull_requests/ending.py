"""The run that cancels superseded builds of pull requests and removes the staged images of closed ones."""

import dagster as dg
from pydantic import Field

from aml_images_dagster.builds.cleanup import cleanup
from aml_images_dagster.defs.keys import ENDED_BUILDS, OPERATIONS_GROUP
from aml_images_dagster.defs.operations.cleanup import log_report, observe_removed
from aml_images_dagster.defs.pools import OPERATIONS_POOL
from aml_images_dagster.defs.run import Factory, failure


class EndingOptions(dg.Config):
    """What the sensor of pull requests asks for."""

    cancel: list[str] = Field(default=[], description="Ids of runs to cancel; the cleanup ends their builds.")
    remove: list[str] = Field(default=[], description="Numbers of builds whose images leave staging.")


def ending_asset() -> dg.AssetsDefinition:
    """The asset that ends builds of pull requests. If one cannot be ended, the run fails and is requested again."""

    @dg.asset(
        key=ENDED_BUILDS,
        group_name=OPERATIONS_GROUP,
        description="Builds of pull requests that were superseded or closed: canceled, and removed from staging.",
        kinds={"git"},
        pool=OPERATIONS_POOL,
    )
    def ended_builds(
        context: dg.AssetExecutionContext, config: EndingOptions, factory: dg.ResourceParam[Factory]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        left = []
        for run_id in config.cancel:
            try:
                context.instance.run_coordinator.cancel_run(run_id)
                context.log.info(f"run {run_id} is canceled")
            except Exception as error:  # noqa: BLE001 - whatever a launcher raises must not keep the others
                left.append(f"run {run_id} cannot be canceled: {error!r}")
        for build in config.remove:
            report = cleanup(build, factory.backends, "expired")
            log_report(report, context.log)
            observe_removed(context.instance, [report])
            if not report.clean:
                left.append(f"build {build} cannot be removed completely")
        if left:
            raise failure("\n".join(left))
        return dg.MaterializeResult(
            metadata={
                "canceled": dg.MetadataValue.json(list(config.cancel)),
                "removed": dg.MetadataValue.json(list(config.remove)),
            }
        )

    return ended_builds
