"""The jobs `rollback` and `withdraw`."""

from typing import Any

import dagster as dg
from pydantic import Field

from aml_images_dagster.builds.ledger import TagChange
from aml_images_dagster.defs.in_process import in_process_executor
from aml_images_dagster.defs.keys import ROLLBACK, ROLLBACK_JOB, WITHDRAW, WITHDRAW_JOB
from aml_images_dagster.defs.release.released import announce_change, changes_table
from aml_images_dagster.defs.run import Factory, acting, explained, step_log
from aml_images_dagster.release.actor import stated
from aml_images_dagster.release.rollback import plan_rollback, released_image, roll_back
from aml_images_dagster.release.withdrawal import plan_withdrawal, withdraw
from aml_images_dagster.settings import Settings


class RollbackOptions(dg.Config):
    """The launchpad block of a rollback."""

    image: str = Field(description="The image, as FAMILY/IMAGE; IMAGE alone where no other has that name.")
    to: str = Field(default="", description="Release tag to go back to. Default: the release before the latest.")
    reason: str = Field(default="", description="Why; recorded.")
    dry_run: bool = Field(default=False, description="Only show what would change.")
    who: str = Field(default="", description="Who does it; recorded. Default: the setting release.who.")


class WithdrawOptions(dg.Config):
    """The launchpad block of a withdrawal."""

    image: str = Field(description="The image, as FAMILY/IMAGE; IMAGE alone where no other has that name.")
    tag: str = Field(description="The release tag to remove, permanently.")
    reason: str = Field(description="Why; recorded.")
    dry_run: bool = Field(default=False, description="Only show what would change.")
    who: str = Field(default="", description="Who does it; recorded. Default: the setting release.who.")


def pod_tags(settings: Settings) -> dict[str, Any]:
    """Tags of the jobs that change production: the account of their pods, which may do more than that of builds.

    Source: https://docs.dagster.io/deployment/oss/deployment-options/kubernetes/customizing-your-deployment.
    """
    account = settings.release.kubernetes_service_account
    return {"dagster-k8s/config": {"pod_spec_config": {"service_account_name": account}}} if account else {}


def production_jobs(settings: Settings) -> list[dg.JobDefinition]:
    """A job each."""

    @dg.op(name=ROLLBACK)
    def roll_back_op(
        context: dg.OpExecutionContext, config: RollbackOptions, factory: dg.ResourceParam[Factory]
    ) -> None:
        with explained():
            reason = stated(config.reason, "reason")
            image = released_image(config.image, factory.backends)
            if config.dry_run:
                version, change = plan_rollback(image, config.to, factory.backends)
                _show_planned(context, change, f":latest of {image} would be {version.tag}")
                return
            who = acting(context.run, config.who, factory.settings)
            record = roll_back(image, config.to, reason, factory.backends, factory.settings, who, step_log)
            if record is not None:
                announce_change(context.instance, record, factory, context.log_event)

    @dg.op(name=WITHDRAW)
    def withdraw_op(
        context: dg.OpExecutionContext, config: WithdrawOptions, factory: dg.ResourceParam[Factory]
    ) -> None:
        with explained():
            reason = stated(config.reason, "reason", required=True)
            image = released_image(config.image, factory.backends)
            if config.dry_run:
                _, change = plan_withdrawal(image, config.tag, factory.backends)
                _show_planned(context, change, f"{image} {config.tag} would be removed")
                return
            who = acting(context.run, config.who, factory.settings)
            record = withdraw(image, config.tag, reason, factory.backends, factory.settings, who, step_log)
            if record is not None:
                announce_change(context.instance, record, factory, context.log_event)

    in_process, tags = in_process_executor(settings), pod_tags(settings)

    @dg.job(
        name=ROLLBACK_JOB,
        description="Move :latest of an image back to an earlier release.",
        executor_def=in_process,
        tags=tags,
    )
    def rollback_job() -> None:
        roll_back_op()

    @dg.job(
        name=WITHDRAW_JOB,
        description="Remove a release tag from production, permanently.",
        executor_def=in_process,
        tags=tags,
    )
    def withdraw_job() -> None:
        withdraw_op()

    return [rollback_job, withdraw_job]


def _show_planned(context: dg.OpExecutionContext, change: TagChange, said: str) -> None:
    """The dry run of a change of one tag."""
    context.log.info(f"Dry run: {said}. Nothing was changed.")
    context.add_output_metadata({"dry_run": said, "changes": changes_table([change])})
