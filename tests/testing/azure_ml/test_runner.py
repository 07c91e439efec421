"""Jobs of the real SDK, over HTTPS, in an emulated workspace."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.testing.azure_ml.command import build_key, image_key
from aml_images_dagster.testing.azure_ml.workspace import AT_ONCE
from tests.emulators.azure.machine_learning import COMPUTE, EmulatedJob
from tests.emulators.azure.service import Fault
from tests.testing.azure_ml.conftest import eventually

if TYPE_CHECKING:
    from aml_images_dagster.testing.azure_ml.runner import AzureMlRunner
    from tests.emulators.azure.clockwork import Clockwork
    from tests.emulators.azure.cloud import EmulatedCloud
    from tests.emulators.azure.machine_learning import MachineLearning
    from tests.testing.azure_ml.conftest import MakeJob, MakeRunner


def test_a_job_passes(runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob, build: str) -> None:
    job = make_job()
    lines: list[str] = []
    result = runner.run(job, lines.append)
    assert (result.status, result.reason, result.job, result.logs) == ("passed", "", job.name, ())
    assert result.url.startswith("https://ml.azure.example/runs/")
    assert result.sdk.startswith("azure-ai-ml 1.")
    assert lines[0] == f"trial: submitted as {job.name} {result.url}"
    assert lines[-1] == "trial: Completed"
    assert runner.live(build) == []


def test_what_is_submitted(
    runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob, build: str, cloud: EmulatedCloud
) -> None:
    files = {"scripts/all reduce.py": "import mpi4py", ".gitignore": "*.py"}
    job = make_job(files=files, nodes=2, distribution="mpi", processes_per_node=3, script="scripts/all reduce.py")
    runner.run(job, print)
    submitted: EmulatedJob = workspace.jobs[job.name]
    sent = submitted.properties
    assert submitted.image == job.reference
    assert {name: content.decode() for name, content in submitted.code.items() if content} == files
    assert sent["command"] == "python 'scripts/all reduce.py'"
    assert sent["distribution"] == {"distributionType": "Mpi", "processCountPerInstance": 3}
    assert sent["resources"]["instanceCount"] == 2
    assert sent["experimentName"] == "aml-images-20260101"
    assert sent["computeId"].endswith(f"/computes/{COMPUTE}")
    assert sent["limits"]["timeout"] == "PT16M"
    assert sent["tags"] == {
        "build": build,
        "image": "base/tests",
        "scenario": "trial",
        "commit": "abc123",
        build_key(build): "build",
        image_key(build, "base/tests"): "image",
    }
    # Nothing about the repository that this code runs in.
    assert sent["properties"] == {"mlflow.source.git.commit": "abc123"}
    assert all(request.headers["Authorization"] for request in cloud.arm.requests("PUT", "/jobs/"))


def test_jobs_of_one_image_share_threads_and_their_environment(
    runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob, cloud: EmulatedCloud
) -> None:
    files = {f"scripts/{number}.py": "" for number in range(20)}
    before = set(threading.enumerate())
    # Those of the emulator are in this process.
    seen: set[str] = set()

    def log(line: str) -> None:
        seen.update(thread.name for thread in set(threading.enumerate()) - before)

    with closing(runner.run_all([make_job(name=f"s{number}", files=files) for number in range(12)], log)) as results:
        assert {result.status for result in results} == {"passed"}
    assert 1 <= len([name for name in seen if name.startswith("azure ml")]) <= AT_ONCE
    assert not [name for name in seen if name.startswith(("ThreadPoolExecutor", "tqdm"))]
    assert len(cloud.arm.exchanges("PUT", "/environments/")) == 1


def test_a_file_that_cannot_be_uploaded_fails_the_job(
    runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob
) -> None:
    workspace.blobs.fail(403, method="PUT", times=None)
    with pytest.raises((BadInput, Unreachable)):
        runner.run(make_job(), print)


def test_pytorch_and_compute(runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob) -> None:
    job = make_job(nodes=2, distribution="pytorch", processes_per_node=2)
    runner.run(job, print)
    sent = workspace.jobs[job.name].properties
    assert sent["distribution"] == {"distributionType": "PyTorch", "processCountPerInstance": 2}


def test_a_failure_has_its_reason_and_logs(
    runner: AzureMlRunner, clockwork: Clockwork, workspace: MachineLearning, make_job: MakeJob
) -> None:
    clockwork.fails = {"trial"}
    result = runner.run(make_job(), print)
    assert (result.status, result.reason) == ("failed", "ValueError: the loss is nan")
    assert [(log.node, log.text.splitlines()[-1]) for log in result.logs] == [("node0", "ValueError: the loss is nan")]


def test_an_unreadable_history_loses_no_result(
    runner: AzureMlRunner, clockwork: Clockwork, cloud: EmulatedCloud, workspace: MachineLearning, make_job: MakeJob
) -> None:
    clockwork.fails = {"trial"}
    cloud.arm.fail(404, path="/history/", times=None)
    result = runner.run(make_job(), print)
    assert result.status == "failed"
    assert "history cannot be read" in result.reason


def test_one_failure_ends_the_others(
    runner: AzureMlRunner, clockwork: Clockwork, workspace: MachineLearning, make_job: MakeJob, build: str
) -> None:
    clockwork.fails = {"bad"}
    clockwork.running_seconds = 600
    good = [make_job(name=f"good-{number}") for number in range(5)]
    bad = make_job(name="bad")

    def fails_at_once() -> None:
        eventually(lambda: [job.status for job in workspace.jobs.values()] == 6 * ["Running"], seconds=120)
        workspace.jobs[bad.name].status = "Failed"

    threading.Thread(target=fails_at_once).start()
    with closing(runner.run_all([*good, bad], print)) as results:
        assert next(results).job == bad.name
        assert len(runner.live(build)) == 5
    assert runner.live(build) == []
    assert {workspace.jobs[job.name].status for job in good} == {"Canceled"}


def test_the_caller_is_interrupted(
    runner: AzureMlRunner, clockwork: Clockwork, workspace: MachineLearning, make_job: MakeJob, build: str
) -> None:
    clockwork.running_seconds = 60

    def interrupt(line: str) -> None:
        if line.endswith("Running"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(make_job(), interrupt)
    assert [job.status for job in workspace.jobs.values()] == ["Canceled"]


def test_interrupted_while_submitting(
    runner: AzureMlRunner, clockwork: Clockwork, cloud: EmulatedCloud, workspace: MachineLearning, make_job: MakeJob
) -> None:
    """A submission that is on its way when the caller gives up still makes its job; that one is ended, too."""
    clockwork.running_seconds = 60
    cloud.arm.faults.append(Fault("slow", "PUT", "/jobs/.*slow", seconds=1, times=None))

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    jobs = [make_job(name="quick"), make_job(name="slow")]
    with pytest.raises(KeyboardInterrupt):
        list(runner.run_all(jobs, interrupt))
    assert {job.status for job in workspace.jobs.values()} == {"Canceled"}
    assert len(cloud.arm.requests("PUT", "/jobs/.*slow")) == len(workspace.jobs) - 1 == 1


def test_time_out(runner: AzureMlRunner, clockwork: Clockwork, workspace: MachineLearning, make_job: MakeJob) -> None:
    clockwork.running_seconds = 60
    result = runner.run(make_job(seconds=0.3), print)
    assert (result.status, result.reason) == ("timed out", "timed out after 0.3 s")
    assert workspace.live() == []


def test_a_queue_that_does_not_move(
    make_runner: MakeRunner, clockwork: Clockwork, workspace: MachineLearning, make_job: MakeJob
) -> None:
    clockwork.queued_seconds = 60
    result = make_runner(job_queue_minutes=0.005).run(make_job(), print)
    assert (result.status, result.reason) == ("timed out", "did not run within 0.3 s: Queued")
    assert workspace.live() == []


@pytest.mark.parametrize("status", ["Paused", "NotResponding", "Unknown", "SomethingNew"])
def test_odd_statuses_are_bounded(
    make_runner: MakeRunner, clockwork: Clockwork, workspace: MachineLearning, make_job: MakeJob, status: str
) -> None:
    clockwork.stays = status
    result = make_runner(job_silent_minutes=0.005).run(make_job(), print)
    assert (result.status, result.reason) == ("failed", f"{status} for 0.3 s")
    assert workspace.live() == []


def test_canceled_by_somebody_else(
    runner: AzureMlRunner, clockwork: Clockwork, workspace: MachineLearning, make_job: MakeJob, build: str
) -> None:
    clockwork.running_seconds = 60
    job = make_job()
    canceled: list[str] = []

    def other_process() -> None:
        eventually(lambda: runner.live(build))
        canceled.extend(runner.cancel(build))

    other = threading.Thread(target=other_process)
    other.start()
    result = runner.run(job, print)
    other.join()
    assert result.status == "canceled"
    assert canceled == [job.name]


def test_stuck_while_being_canceled(
    make_runner: MakeRunner, clockwork: Clockwork, workspace: MachineLearning, make_job: MakeJob, build: str
) -> None:
    clockwork.running_seconds = 60
    workspace.ends_canceled_jobs = False
    runner = make_runner(job_cancel_seconds=0.5)
    job = make_job(seconds=0.2)
    lines: list[str] = []
    with pytest.raises(Unreachable, match="not ended within"), closing(runner.run_all([job], lines.append)) as results:
        result = next(results)
        assert result.status == "timed out"
        assert result.reason == "timed out after 0.2 s; still CancelRequested 0.5 s after it was canceled"
        list(results)
        runner.cancel(build)
    assert runner.live(build) == [job.name]
    # It is found and followed until it has ended, by whoever looks again.
    workspace.jobs[job.name].status = "Canceled"
    assert runner.cancel(build) == []


def test_a_cancellation_that_does_not_arrive_is_repeated(
    make_runner: MakeRunner, clockwork: Clockwork, cloud: EmulatedCloud, make_job: MakeJob
) -> None:
    clockwork.running_seconds = 60
    cloud.arm.fail(403, path="/cancel", times=2)
    result = make_runner().run(make_job(seconds=0.2), print)
    assert (result.status, result.reason) == ("timed out", "timed out after 0.2 s")


def test_a_job_that_cannot_be_canceled_any_more(
    runner: AzureMlRunner, clockwork: Clockwork, workspace: MachineLearning, make_job: MakeJob, build: str
) -> None:
    clockwork.stays = "Finalizing"
    job = make_job()
    other = threading.Thread(target=lambda: runner.run(job, print))
    other.start()
    eventually(lambda: workspace.jobs and workspace.jobs[job.name].status == "Finalizing")
    finisher = threading.Timer(1, lambda: workspace.jobs[job.name].stop.set())
    finisher.start()
    assert runner.cancel(build) == [job.name]
    other.join()


def test_a_job_that_is_there_is_reused(
    runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob, cloud: EmulatedCloud
) -> None:
    first = runner.run(make_job(), print)
    # Another process, with other files by mistake: the service refuses to change a job.
    again = runner.run(make_job(files={"scripts/train.py": "print('other')"}), print)
    assert (first.status, again.status) == ("passed", "passed")
    assert [line.status for line in cloud.arm.exchanges("PUT", "/jobs/")] == [201, 400]
    assert len(workspace.jobs) == 1


def test_a_job_of_another_program_is_left_alone(
    runner: AzureMlRunner, clockwork: Clockwork, workspace: MachineLearning, make_job: MakeJob
) -> None:
    clockwork.stays = "Running"
    job = make_job()
    theirs = replace(job, build="of-others")
    other = threading.Thread(target=lambda: runner.run(theirs, print))
    other.start()
    eventually(lambda: workspace.jobs and workspace.jobs[job.name].status == "Running")
    with pytest.raises(BadInput, match="another program"):
        runner.run(job, print)
    assert not workspace.jobs[job.name].stop.is_set()
    assert runner.cancel(theirs.build) == [job.name]
    other.join()


def test_the_answer_to_a_submission_is_lost(
    runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob, cloud: EmulatedCloud
) -> None:
    cloud.arm.faults.append(Fault("reset", "PUT", "/jobs/"))
    assert runner.run(make_job(), print).status == "passed"
    assert len(workspace.jobs) == 1


def test_storms_of_429_and_503(
    runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob, cloud: EmulatedCloud
) -> None:
    cloud.arm.fail(429, retry_after=1, path="/jobs", times=2)
    cloud.arm.fail(503, method="GET", path="/jobs", times=2)
    assert runner.run(make_job(), print).status == "passed"
    assert {line.status for line in cloud.arm.exchanges(path="/jobs")} >= {429, 503, 200}


def test_the_list_lags_behind(runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob) -> None:
    workspace.lists = False
    assert runner.run(make_job(), print).status == "passed"


def test_what_is_missing_is_said(make_runner: MakeRunner, workspace: MachineLearning, make_job: MakeJob) -> None:
    with pytest.raises(BadInput, match=r"azure\.workspace"):
        make_runner(workspace="").check([""])
    with pytest.raises(BadInput, match="no compute is named"):
        make_runner(compute="").check([""])
    with pytest.raises(BadInput, match="no compute is named"):
        make_runner(compute="").run(make_job(), print)
    with pytest.raises(BadInput, match="no compute 'gpu'"):
        make_runner().check(["", "gpu"])
    with pytest.raises(BadInput, match="no Azure ML workspace 'wrong'"):
        make_runner(workspace="wrong").check([""])
    make_runner().check(["", COMPUTE])


def test_not_signed_in(runner: AzureMlRunner, cloud: EmulatedCloud, workspace: MachineLearning) -> None:
    cloud.identity.available = False
    with pytest.raises(Unreachable, match="not signed in"):
        runner.check([""])


def test_not_allowed(runner: AzureMlRunner, cloud: EmulatedCloud, workspace: MachineLearning) -> None:
    cloud.arm.fail(403, times=None)
    with pytest.raises(Unreachable, match="may not"):
        runner.check([""])
