"""Steps as forks of the run's process.

A fork inherits definitions, plan, run configuration, resources and the instance. With Dagster's
multiprocess executor the process of every step makes them again: 1.3 CPU seconds per step instead of 0.3.

This module keeps the requirements of forking. The process that forks has no thread that could hold a lock. Steps are
forked in its main thread, because a step is interrupted when the thread that forked it ends. If this is not possible,
and off Linux, Dagster's multiprocess executor runs the steps, and an event of the run gives the reason.
Databases are closed before a fork (see `instance.storage`), and connections to services are made in the step.

Every private name of Dagster in use is listed in docs/performance.md.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.errors import DagsterSubprocessError
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.compute_logs import create_compute_log_file_key
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.execute_plan import (
    _handle_compute_log_setup_error,
    _handle_compute_log_teardown_error,
    _trigger_hook,
    dagster_event_sequence_for_step,
)
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.retries import RetryMode
from dagster._core.executor import multiprocess
from dagster._core.executor.multiprocess import MultiprocessExecutor
from dagster._utils import get_run_crash_explanation
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster._utils.interrupts import capture_interrupts
from dagster_shared.error import SerializableErrorInfo
from typing_extensions import override

from aml_images_dagster.fork_server import terminate_with
from aml_images_dagster.instance.heartbeat import repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess

    from dagster._core.execution.context.system import PlanExecutionContext, PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.plan.state import KnownExecutionState
    from dagster._core.execution.plan.step import ExecutionStep

    Prepare = Callable[[dg.DagsterInstance, dg.DagsterRun], None]
    Begin = Callable[[dg.DagsterInstance, dg.DagsterRun], None]
    Beat = Callable[[dg.DagsterInstance, dg.DagsterRun], None]

_POLL_SECONDS = 0.2
"""Between two looks for an interrupt, and for free slots in pools and steps to retry while none has ended."""
_GRACE_SECONDS = 300
"""How long a step has to end after an interrupt; longer than the longest cleanup of ours after one."""
_INTERRUPTS = {"DagsterExecutionInterruptedError", "KeyboardInterrupt"}
_WAITING_THREADS = {"termination-handler", "QueueFeederThread"}
"""Of the process that Dagster's code server starts for a run. The one waits until the run is terminated, the other has
said that the run has started and waits until it is over: neither holds a lock that a step takes."""


def fork_executor(
    max_concurrent: int,
    preload: Sequence[str] = (),
    prepare: Prepare | None = None,
    grace_seconds: float = _GRACE_SECONDS,
    *,
    forks: bool = True,
    fail_fast: bool = False,
    begin: Begin | None = None,
    beat: Beat | None = None,
    beat_seconds: float = 30,
) -> dg.ExecutorDefinition:
    """An executor that runs each step in a fork of the run's process.

    Args:
        max_concurrent: How many steps of a run may run at the same time.
        preload: Modules that the server of the multiprocess executor imports where steps cannot be forked.
        prepare: Called once per run before the first step, in the process that steps are forked from.
        grace_seconds: How long a step that was interrupted may take to end, before it is killed.
        forks: Whether to fork at all, and not to use the multiprocess executor for all steps.
        fail_fast: Whether no step is started any more once one has failed. Those that run are left to their end.
            The multiprocess executor does not know this.
        begin: Called once per run before all else, in the process that executes it, also where steps cannot be forked.
        beat: Called as long as the run is executed, also where steps cannot be forked. What it raises is ignored.
        beat_seconds: How long after one call the next one comes.
    """

    @dg.executor(name="fork" if forks else "multiprocess", requirements=dg.multiple_process_executor_requirements())
    def fork(_: dg.InitExecutorContext) -> ForkExecutor:
        return ForkExecutor(
            max_concurrent,
            preload,
            prepare,
            grace_seconds,
            forks=forks,
            fail_fast=fail_fast,
            begin=begin,
            beat=beat,
            beat_seconds=beat_seconds,
        )

    return fork


class ForkExecutor(dg.Executor):
    """See the module and `fork_executor`."""

    def __init__(
        self,
        max_concurrent: int,
        preload: Sequence[str],
        prepare: Prepare | None,
        grace_seconds: float,
        *,
        forks: bool,
        fail_fast: bool,
        begin: Begin | None,
        beat: Beat | None,
        beat_seconds: float,
    ) -> None:
        self._max_concurrent = max_concurrent
        self._preload = preload
        self._prepare = prepare
        self._grace_seconds = grace_seconds
        self._forks = forks
        self._fail_fast = fail_fast
        self._begin = begin
        self._beat = beat
        self._beat_seconds = beat_seconds

    @property
    def retries(self) -> RetryMode:
        """Retry policies of steps are followed."""
        return RetryMode.ENABLED

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Run the steps of a plan."""
        if self._begin is not None:
            self._begin(plan_context.instance, plan_context.dagster_run)
        pulse = self._pulse_of(plan_context.instance, plan_context.dagster_run)
        pulse()
        obstacle = _obstacle() if self._forks else "the multiprocess executor was chosen"
        if obstacle:
            yield DagsterEvent.engine_event(plan_context, f"Steps are not forked: {obstacle}", EngineEventData())
            # Dagster's executor makes its own and cannot be given another.
            multiprocess.InstanceConcurrencyContext = Slots  # type: ignore[assignment, attr-defined]
            substitute = MultiprocessExecutor(
                retries=RetryMode.ENABLED,
                max_concurrent=self._max_concurrent,
                start_method="forkserver",
                explicit_forkserver_preload=list(self._preload),
            )
            with repeated(pulse, _POLL_SECONDS):  # that executor has no place to call it
                yield from substitute.execute(plan_context, execution_plan)
            return
        yield DagsterEvent.engine_event(
            plan_context,
            f"Fork executor: parent process (pid: {os.getpid()})",
            EngineEventData.multiprocess(os.getpid(), step_keys_to_execute=execution_plan.step_keys_to_execute),
        )
        manager = PlanExecutionContextManager(
            job=plan_context.job,
            retry_mode=self.retries.for_inner_plan(),
            execution_plan=execution_plan,
            run_config=plan_context.run_config,
            dagster_run=plan_context.dagster_run,
            instance=plan_context.instance,
        )
        yield from manager.prepare_context()
        context: PlanExecutionContext | None = manager.get_context()
        if context is None:  # an event says which resource has failed
            raise DagsterSubprocessError("the resources of the run could not be made", subprocess_error_infos=[])  # type: ignore[no-untyped-call]
        if self._prepare is not None:
            self._prepare(context.instance, context.dagster_run)
        # Made when they are first asked for: here, and not in every step.
        _ = context.instance.compute_log_manager
        _map_assets(context, execution_plan)
        try:
            with _nothing_is_garbage():
                yield from self._run_steps(context, execution_plan, pulse)
        finally:
            for _event in manager.shutdown_context():
                pass

    def _pulse_of(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> Callable[[], None]:
        """Called often, it beats as often as it should."""
        beat, due = self._beat, 0.0

        def pulse() -> None:
            nonlocal due
            if beat is not None and time.monotonic() >= due:
                due = time.monotonic() + self._beat_seconds
                with suppress(Exception):  # an instance that does not answer now is no reason to end the run
                    beat(instance, run)

        return pulse

    def _run_steps(
        self, context: PlanExecutionContext, execution_plan: ExecutionPlan, pulse: Callable[[], None]
    ) -> Iterator[DagsterEvent]:
        with ExitStack() as stack:
            slots = stack.enter_context(Slots(context.instance, context.dagster_run))
            active = stack.enter_context(
                ActiveExecution(
                    execution_plan,
                    retry_mode=self.retries,
                    max_concurrent=self._max_concurrent,
                    instance_concurrency_context=slots,
                )
            )
            running: dict[str, _Fork] = {}
            errors: list[SerializableErrorInfo] = []
            interrupted_at: float | None = None
            failed = ""
            look_at = 0.0
            try:
                while running or (interrupted_at is None and not failed and not active.is_complete):
                    if active.check_for_interrupts() and interrupted_at is None:
                        yield DagsterEvent.engine_event(
                            context, "Interrupted: interrupting the steps", EngineEventData.interrupted([*running])
                        )
                        active.mark_interrupted()
                        interrupted_at = time.monotonic()
                        slots.wait_no_more()
                        _signal(running, signal.SIGINT)
                    if interrupted_at is not None and time.monotonic() > interrupted_at + self._grace_seconds:
                        _signal(running, signal.SIGKILL)
                    # Dagster goes through all steps of the run to find the next ones: not with each event of one.
                    while interrupted_at is None and not failed and time.monotonic() >= look_at:
                        free = self._max_concurrent - len(running)
                        steps = active.get_steps_to_execute(limit=free) if free else ()
                        yield from active.concurrency_event_iterator(context)
                        if not steps:
                            look_at = time.monotonic() + _POLL_SECONDS
                        for step in steps:
                            running[step.key] = _Fork.of(context, step, active.get_known_state())
                    pulse()
                    handles = (handle for fork in running.values() for handle in (fork.messages, fork.process.sentinel))
                    wait([*handles], _POLL_SECONDS)
                    for key, fork in list(running.items()):
                        has_ended = not fork.process.is_alive()
                        for message in fork.received():
                            if isinstance(message, DagsterEvent):
                                yield message
                                if message.is_step_failure and self._fail_fast:
                                    failed = failed or key
                                    slots.wait_no_more()
                                active.handle_event(message)
                            else:
                                errors.append(message)
                        if not has_ended:
                            continue
                        del running[key]
                        look_at = 0.0
                        fork.messages.close()
                        if not fork.complete:
                            crash = _crash(key, fork)
                            if self._fail_fast:
                                slots.wait_no_more()
                            will_be_retried = yield from self._crashed(context, active, key, fork, crash)
                            if interrupted_at is None and not will_be_retried:
                                errors.append(crash)
                                failed = failed or (key if self._fail_fast else "")
                        active.verify_complete(context, key)
                    if time.monotonic() >= look_at:
                        yield from active.plan_events_iterator(context)
            except BaseException:
                # No step may run without a parent that watches it.
                _signal(running, signal.SIGINT)
                _end(running, self._grace_seconds)
                raise
            if interrupted_at is not None and all(error.cls_name in _INTERRUPTS for error in errors):
                raise dg.DagsterExecutionInterruptedError
            if errors or (failed and not active.is_complete):
                untold = [] if active.is_complete else [f"Step {failed} failed, so no other step was started."]
                raise DagsterSubprocessError(  # type: ignore[no-untyped-call]
                    "\n".join([*untold, *(error.to_string() for error in errors)]), subprocess_error_infos=errors
                )

    def _crashed(
        self,
        context: PlanExecutionContext,
        active: ActiveExecution,
        key: str,
        fork: _Fork,
        error: SerializableErrorInfo,
    ) -> Generator[DagsterEvent, None, bool]:
        """Say so, and what becomes of the step; whether it is to be retried."""
        step_context = context.for_step(active.get_step_by_key(key), active.get_known_state())
        yield DagsterEvent.engine_event(step_context, error.message, EngineEventData.engine_error(error))
        if fork.concluded:  # it was killed in a hook
            return False
        ended = self.log_failure_or_retry_event_after_error(step_context, error, active.get_known_state())
        yield ended
        active.handle_event(ended)
        return ended.is_step_up_for_retry


class Slots(InstanceConcurrencyContext):
    """Slots of pools, for which one step of the run waits in each pool.

    With Dagster's own, every step that is ready asks for a slot, again and again, and one that a step of the run has
    left is idle until the step that it is given to asks once more, after up to 15 seconds. That matters where more
    steps run than a pool has slots.
    """

    def __init__(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        super().__init__(instance, run)
        self._next: dict[str, str] = {}

    @override
    def claim(self, concurrency_key: str, step_key: str, step_priority: int = 0) -> bool:
        if self._next.setdefault(concurrency_key, step_key) != step_key:
            return False
        has_slot = super().claim(concurrency_key, step_key, step_priority)
        if has_slot:
            del self._next[concurrency_key]
        return has_slot

    @override
    def free_step(self, step_key: str) -> None:
        super().free_step(step_key)
        self._pending_timeouts.clear()

    def wait_no_more(self) -> None:
        """Let what steps of this run leave go to other runs at once: no further step will be started."""
        for step_key in self._pending_claims:
            self._instance.event_log_storage.free_concurrency_slot_for_step(self._run_id, step_key)
        self._pending_claims.clear()
        self._next.clear()


@dataclass
class _Fork:
    """The process of a step, and what is known of it.

    Attributes:
        process: The process.
        messages: Where its events come out, then the error that ended it, if any, and None at its very end.
        concluded: Whether an event said what became of the step.
        complete: Whether the process came to its end, and was not killed.
    """

    process: ForkProcess
    messages: Connection
    concluded: bool = False
    complete: bool = False

    @classmethod
    def of(cls, context: PlanExecutionContext, step: ExecutionStep, known_state: KnownExecutionState) -> _Fork:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_run, args=(context, step, known_state, sender, os.getpid()), name=step.key
        )
        process.start()
        sender.close()  # neither this process nor a later fork keeps it open: when the step ends, it is at its end
        return cls(process, receiver)

    def received(self) -> Iterator[DagsterEvent | SerializableErrorInfo]:
        """What has come since."""
        with suppress(EOFError, OSError):  # it has ended, perhaps in mid-message
            while self.messages.poll():
                message = self.messages.recv()
                if message is None:
                    self.complete = True
                    continue
                if isinstance(message, DagsterEvent):
                    self.concluded |= message.is_step_success or message.is_step_failure or message.is_step_up_for_retry
                yield message


def _run(
    context: PlanExecutionContext,
    step: ExecutionStep,
    known_state: KnownExecutionState,
    sender: Connection,
    parent: int,
) -> None:
    """What the process of a step does."""
    # Nobody would wait for it when the run's process is killed; what it does is interrupted, and cleaned up.
    is_watched = terminate_with(parent)
    # A terminal interrupts a whole group, and the executor passes the interrupt on: a second one would interrupt the
    # step's cleanup after the first.
    os.setpgid(0, 0)
    with capture_interrupts(), suppress(BrokenPipeError):
        if not is_watched:
            return
        try:
            started = f"Step {step.key} runs in a fork of the run's process"
            pid = {"pid": dg.MetadataValue.text(str(os.getpid()))}
            DagsterEvent.step_worker_started(context.log, context.job_name, started, pid, step.key)
            for event in _events(context, step, known_state):  # each is stored when it is made
                sender.send(event)
        except (Exception, KeyboardInterrupt, dg.DagsterExecutionInterruptedError):  # noqa: BLE001 - it is sent
            sender.send(serializable_error_info_from_exc_info(sys.exc_info()))
        sender.send(None)


def _events(
    context: PlanExecutionContext, step: ExecutionStep, known_state: KnownExecutionState
) -> Iterator[DagsterEvent]:
    """What Dagster's `inner_plan_execution_iterator` does for a step that is a plan of its own."""
    logs = context.instance.compute_log_manager
    with ExitStack() as capture:
        log_key = logs.build_log_key_for_run(context.run_id, create_compute_log_file_key())  # type: ignore[no-untyped-call]
        try:
            captured = capture.enter_context(logs.capture_logs(log_key))
            yield DagsterEvent.capture_logs(context, [step.key], log_key, captured)
        except Exception:  # noqa: BLE001 - a step runs without its log
            yield from _handle_compute_log_setup_error(context, sys.exc_info())
        step_context = context.for_step(step, known_state)
        # Dagster asks for it with each output of a step, and each time goes through all outputs and all their keys: the
        # step of the release files has two outputs for each image.
        step_context.get_output_asset_keys = cache(step_context.get_output_asset_keys)  # type: ignore[method-assign]
        events = []
        for event in dagster_event_sequence_for_step(step_context):
            events.append(event)
            yield event
        yield from _trigger_hook(step_context, events)
        try:
            capture.close()
        except Exception:  # noqa: BLE001
            yield from _handle_compute_log_teardown_error(context, sys.exc_info())


def _map_assets(context: PlanExecutionContext, plan: ExecutionPlan) -> None:
    """Let the job find which step makes which asset: it goes through all of both."""
    assets = context.job_def.asset_layer
    made = (
        key
        for step in plan.get_steps_to_execute_in_topo_order()
        for key in assets.get_selected_entity_keys_for_node(step.node_handle)
    )
    if key := next(made, None):
        assets.get_op_output_handle(key)


def _obstacle() -> str:
    """Why this process must not fork; empty when it may."""
    if sys.platform != "linux":
        return "this is not Linux"
    if threading.current_thread() is not threading.main_thread():
        return "the run is not executed in the main thread of its process"
    others = {thread.name for thread in threading.enumerate()} - {threading.main_thread().name} - _WAITING_THREADS
    return f"other threads run in the process of the run: {', '.join(sorted(others))}" if others else ""


def _crash(key: str, fork: _Fork) -> SerializableErrorInfo:
    explanation = get_run_crash_explanation(prefix=f"The process of step {key}", exit_code=fork.process.exitcode or 0)
    return SerializableErrorInfo(explanation, [], "ProcessCrash")


def _signal(running: Mapping[str, _Fork], number: signal.Signals) -> None:
    for fork in running.values():
        if fork.process.is_alive():  # not waited for yet, so the number is still its own
            os.kill(fork.process.pid or 0, number)


def _end(running: Mapping[str, _Fork], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(fork.process.is_alive() for fork in running.values()) and time.monotonic() < deadline:
        for fork in running.values():
            for _ in fork.received():  # else it waits for a reader
                pass
        time.sleep(_POLL_SECONDS)
    _signal(running, signal.SIGKILL)


@contextmanager
def _nothing_is_garbage() -> Iterator[None]:
    """What there is now is shared by all forks as long as no collector touches it."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
