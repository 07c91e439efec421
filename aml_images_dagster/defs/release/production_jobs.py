"""The jobs `rollback` and `withdraw`."""

import dagster as dg
from pydantic import Field

from aml_images_dagster.defs.keys import ROLLBACK, ROLLBACK_JOB, WITHDRAW, WITHDRAW_JOB
from aml_images_dagster.defs.release.released import announce_change
from aml_images_dagster.defs.run import Factory, acting, explained, step_log
from aml_images_dagster.release.rollback import roll_back
from aml_images_dagster.release.withdrawal import withdraw


class RollbackOptions(dg.Config):
    """The launchpad block of a rollback."""

    image: str = Field(description="The image, as FAMILY/IMAGE.")
    to: str = Field(default="", description="Release tag to go back to. Default: the release before the latest.")
    reason: str = Field(description="Why; recorded.")
    who: str = Field(default="", description="Who does it; recorded. Default: the setting release.who.")


class WithdrawOptions(dg.Config):
    """The launchpad block of a withdrawal."""

    image: str = Field(description="The image, as FAMILY/IMAGE.")
    tag: str = Field(description="The release tag to remove, permanently.")
    reason: str = Field(description="Why; recorded.")
    who: str = Field(default="", description="Who does it; recorded. Default: the setting release.who.")


def production_jobs() -> list[dg.JobDefinition]:
    """A job each."""

    @dg.op(name=ROLLBACK)
    def roll_back_op(
        context: dg.OpExecutionContext, config: RollbackOptions, factory: dg.ResourceParam[Factory]
    ) -> None:
        with explained():
            who = acting(context.run, config.who, factory.settings)
            record = roll_back(
                config.image, config.to, config.reason, factory.backends, factory.settings, who, step_log
            )
            if record is not None:
                announce_change(context.instance, record, factory, context.log_event)

    @dg.op(name=WITHDRAW)
    def withdraw_op(
        context: dg.OpExecutionContext, config: WithdrawOptions, factory: dg.ResourceParam[Factory]
    ) -> None:
        with explained():
            who = acting(context.run, config.who, factory.settings)
            record = withdraw(
                config.image, config.tag, config.reason, factory.backends, factory.settings, who, step_log
            )
            if record is not None:
                announce_change(context.instance, record, factory, context.log_event)

    # In the process of the run: it is there sooner.
    in_process = dg.in_process_executor

    @dg.job(
        name=ROLLBACK_JOB,
        description="Move :latest of an image back to an earlier release.",
        executor_def=in_process,
    )
    def rollback_job() -> None:
        roll_back_op()

    @dg.job(
        name=WITHDRAW_JOB, description="Remove a release tag from production, permanently.", executor_def=in_process
    )
    def withdraw_job() -> None:
        withdraw_op()

    return [rollback_job, withdraw_job]
