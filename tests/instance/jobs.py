"""Jobs whose steps are forks, and a program that runs one of them: its `main`."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dagster as dg

from aml_images_dagster.instance.fork_executor import fork_executor
from aml_images_dagster.instance.forked_runs import fork_runs

POOL = "one_at_a_time"
CROWD = 3


def folder() -> Path:
    """Where steps leave marks."""
    return Path(os.environ["MARKS"])


def mark(name: str, text: str = "") -> None:
    new = folder() / f"{name}.{os.getpid()}.new"  # runs that begin together leave the same marks
    new.write_text(text)
    new.rename(folder() / name)


@dg.op(out=dg.Out(dg.Nothing))
def where(context: dg.OpExecutionContext) -> None:
    mark("parent", str(os.getppid()))
    mark("grandparent", Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
    mark("threads", str(threading.active_count()))
    print("printed by Python", flush=True)
    os.system("echo printed by a shell >&2")
    context.log.info("logged")


@dg.op(ins={"before": dg.In(dg.Nothing)})
def after() -> None:
    mark("after")


@dg.op(out=dg.Out(dg.Nothing))
def sleeps() -> None:
    mark("began", str(os.getpid()))
    try:
        time.sleep(120)
    except BaseException as error:
        time.sleep(1)  # a cleanup, which a second interrupt would interrupt
        mark("cleaned up", type(error).__name__)
        raise


@dg.op(out=dg.Out(dg.Nothing))
def sleeps_for_a_while() -> None:
    mark("began", str(os.getpid()))
    time.sleep(float(os.environ["SECONDS_OF_THE_STEP"]))


@dg.op(pool=POOL)
def sleeps_in_pool() -> None:
    mark("began", str(os.getpid()))
    time.sleep(120)


@dg.op
def ignores_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mark("began", str(os.getpid()))
    time.sleep(120)


@dg.failure_hook
def notices(context: dg.HookContext) -> None:
    mark("hook", context.op.name)


def fail_the_first_time(name: str) -> None:
    if not (folder() / name).exists():
        mark(name)
        raise ValueError("for the first time")


@dg.op(out=dg.Out(dg.Nothing))
def fails_once() -> None:
    fail_the_first_time("failed")


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def retried() -> None:
    fail_the_first_time("retried")


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def killed_once() -> None:
    if not (folder() / "killed").exists():
        mark("killed")
        os.kill(os.getpid(), signal.SIGKILL)


@dg.op(out=dg.Out(dg.Nothing))
def leaves_without_a_word() -> None:
    os._exit(0)


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def fails_twice() -> None:
    mark(f"tried-{time.monotonic()}")
    raise ValueError("every time")


@dg.op
def dies() -> None:
    mark("dies")
    os.kill(os.getpid(), signal.SIGKILL)


@dg.op(out=dg.Out(dg.Nothing))
def outlasts() -> None:
    while not (folder() / "hook").exists() and not (folder() / "dies").exists():
        time.sleep(0.1)
    time.sleep(1)


@dg.op(pool=POOL)
def alone(context: dg.OpExecutionContext) -> None:
    began = time.time()
    time.sleep(0.5)
    mark(f"alone-{context.run_id}", f"{began} {time.time()}")


@dg.op(pool=POOL, out=dg.Out(dg.Nothing))
def makes(context: dg.OpExecutionContext) -> None:
    pool = context.instance.event_log_storage.get_concurrency_info(POOL)
    mark(f"makes-{context.op_handle}", str(pool.pending_step_count))


@dg.op(ins={"made": dg.In(dg.Nothing)})
def meets(context: dg.OpExecutionContext) -> None:
    """Ends when three of it run at once."""
    mark(f"meets-{context.op_handle}")
    while len([*folder().glob("meets-*")]) < CROWD:
        time.sleep(0.05)


def beats(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    with (folder() / "beats").open("a") as file:
        file.write(f"{os.getpid()} {run.run_id}\n")
    raise ConnectionError(f"{instance} is away")


fork = partial(fork_executor, 2)


@dg.job(executor_def=fork())
def placed() -> None:
    after(before=where())


@dg.job(executor_def=fork())
def interrupted() -> None:
    sleeps()


@dg.job(executor_def=fork())
def lasting() -> None:
    after(before=sleeps_for_a_while())


@dg.job(executor_def=fork(grace_seconds=1))
def hanging() -> None:
    ignores_interrupts()


@dg.job(executor_def=fork(), hooks={notices})
def failing() -> None:
    where()
    after(before=fails_once())


@dg.job(executor_def=fork())
def retrying() -> None:
    retried()
    killed_once()


@dg.job(executor_def=fork(fail_fast=True), hooks={notices})
def failing_fast() -> None:
    fails_twice()
    after(before=outlasts())


@dg.job(executor_def=fork(fail_fast=True))
def dying_fast() -> None:
    dies()
    after(before=outlasts())


@dg.job(executor_def=fork())
def silent() -> None:
    after(before=leaves_without_a_word())


@dg.job(executor_def=fork())
def pooled() -> None:
    alone()


@dg.graph
def crowd() -> None:
    for number in range(CROWD):
        meets.alias(f"meets_{number}")(made=makes.alias(f"makes_{number}")())


def crowded() -> dg.JobDefinition:
    return crowd.to_job("crowded", executor_def=fork_executor(CROWD + 1))


def crowded_not_forked() -> dg.JobDefinition:
    return crowd.to_job("crowded_not_forked", executor_def=fork_executor(CROWD + 1, forks=False))


@dg.job(executor_def=fork())
def pooled_sleep() -> None:
    sleeps_in_pool()


@dg.job(executor_def=fork(prepare=lambda _, run: mark("prepared", f"{os.getpid()} {run.run_id}")))
def prepared() -> None:
    where()


@dg.job(
    executor_def=fork(begin=lambda _, run: mark("begun", f"{os.getpid()} {run.run_id}"), beat=beats, beat_seconds=0.3)
)
def beating() -> None:
    after(before=sleeps_for_a_while())


@dg.job(executor_def=fork(forks=False))
def not_forked() -> None:
    where()


@dg.multi_asset(specs=[dg.AssetSpec(f"asset{number}") for number in range(40)], can_subset=True)
def assets(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
    for key in sorted(context.selected_asset_keys):
        yield dg.MaterializeResult(asset_key=key)
    asked = context.get_step_execution_context().get_output_asset_keys.cache_info()  # type: ignore[attr-defined]
    mark("asked", f"{asked.hits} {asked.misses}")


def of_assets() -> dg.JobDefinition:
    job = dg.define_asset_job("of_assets", executor_def=fork())
    return dg.Definitions([assets], jobs=[job]).resolve_job_def("of_assets")


def of_the_last_asset() -> dg.JobDefinition:
    job = dg.define_asset_job("of_the_last_asset", ["asset9"], executor_def=fork())
    return dg.Definitions([assets], jobs=[job]).resolve_job_def("of_the_last_asset")


@dg.definitions
def defs() -> dg.Definitions:
    fork_runs(["aml_images_dagster.preload", __name__])
    return dg.Definitions(jobs=[interrupted, placed])


def main() -> None:
    job, options = sys.argv[1], sys.argv[2:]
    if "thread" in options:
        threading.Thread(target=time.sleep, args=(300,), name="another", daemon=True).start()
    with dg.DagsterInstance.get() as instance:
        again = [option for option in options if option != "thread"]
        reexecution = dg.ReexecutionOptions.from_failure(again[0], instance) if again else None
        mark("process", str(os.getpid()))
        dg.execute_job(dg.reconstructable(globals()[job]), instance=instance, reexecution_options=reexecution)
