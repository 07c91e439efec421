"""The executor of jobs whose steps run in the run's process: they are there sooner, and who ends the run ends them.

It writes heartbeats, as the executor of builds does: a run whose process or machine is killed must not stay under way
for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor
from typing_extensions import override

from aml_images_dagster.defs.run_state import name_process
from aml_images_dagster.instance.heartbeat import beating

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster._core.events import DagsterEvent
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan

    from aml_images_dagster.settings import Settings


def in_process_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Dagster's `in_process_executor`, whose runs name their process and write heartbeats."""

    @dg.executor(name="in_process")
    def in_process(_: dg.InitExecutorContext) -> _LivingExecutor:
        return _LivingExecutor(settings.host_patience_seconds)

    return in_process


class _LivingExecutor(InProcessExecutor):
    def __init__(self, patience_seconds: float) -> None:
        super().__init__(RetryMode.ENABLED)
        self._patience_seconds = patience_seconds

    @override
    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        instance, run = plan_context.instance, plan_context.dagster_run
        name_process(instance, run)
        with beating(instance, run.run_id, self._patience_seconds):
            yield from super().execute(plan_context, execution_plan)
