"""Failures of steps that explain themselves have no stack, wherever Dagster records them; defects keep theirs."""

import dagster as dg

from aml_images_dagster.defs.run import explained, failure, with_stacks
from aml_images_dagster.errors import BuildFailed


def run(fault: Exception | None) -> dg.ExecuteInProcessResult:
    """A job that fails as the ops of the factory do."""

    @dg.op
    def fail() -> None:
        with explained():
            if fault is not None:
                raise fault
            raise failure("it failed, too")

    @dg.job
    def job() -> None:
        fail()

    return job.execute_in_process(raise_on_error=False)


def stacks(done: dg.ExecuteInProcessResult) -> list[bool]:
    """Whether the failures of the step and of the run have a stack."""
    failures = [event.step_failure_data for event in done.all_events if event.is_step_failure]
    ends = [event for event in done.all_events if event.event_type is dg.DagsterEventType.RUN_FAILURE]
    errors = [each.error for each in (*failures, *(end.job_failure_data for end in ends))]
    return ["Stack Trace" in error.to_string() for error in errors if error is not None]


def test_a_failure_that_explains_itself_has_no_stack() -> None:
    done = run(BuildFailed("scenario 'x' failed", where="apps/hello", hint="See its log."))
    (event,) = [event for event in done.all_events if event.is_step_failure]
    assert event.step_failure_data.error is not None
    assert event.step_failure_data.error.message.endswith("apps/hello: scenario 'x' failed\n  See its log.\n")
    assert stacks(done) == [False, False]
    assert stacks(run(None)) == [False, False]


def test_a_defect_keeps_its_stack_also_after_a_failure_that_has_none() -> None:
    assert True not in stacks(run(BuildFailed("it failed")))
    assert stacks(run(ValueError("a defect"))) == [True, True]


def test_hooks_have_stacks_again() -> None:
    @dg.failure_hook
    def look(_: dg.HookContext) -> None:
        with_stacks()
        raise ValueError("a defect of the hook")

    @dg.op
    def fail() -> None:
        with explained():
            raise BuildFailed("it failed")

    @dg.job(hooks={look})
    def job() -> None:
        fail()

    done = job.execute_in_process(raise_on_error=False)
    (hook,) = [event for event in done.all_events if event.event_type is dg.DagsterEventType.HOOK_ERRORED]
    assert "in look" in hook.hook_errored_data.error.to_string()
    assert True not in stacks(done)
