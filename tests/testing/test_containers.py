"""Jobs on the real engine; most of them in a 2 MB image whose `python` is a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import docker
import pytest

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.testing import container_job
from aml_images_dagster.testing.containers import ContainerRunner, Limits
from tests.memory import memory_growth

pytestmark = pytest.mark.engine


def test_passes_and_leaves_nothing(runner, make_job, shell_image, build):
    job = make_job(shell_image, {"scripts/a.sh": "echo one; echo two >&2"}, script="scripts/a.sh")
    lines = []
    result = runner.run(job, lines.append)
    assert (result.status, result.reason, result.job) == ("passed", "", job.name)
    assert {"node0: one", "node0: two"} <= set(lines)
    assert [log.node for log in result.logs] == ["node0"]
    assert sorted(result.logs[0].text.splitlines()) == ["one", "two"]
    assert runner.live(build) == []


def test_environment_and_folders(runner, make_job, shell_image, build):
    script = (
        "set -eu; echo $AML_IMAGES_BUILD $AML_IMAGES_IMAGE $AML_IMAGES_SCENARIO $(pwd) $(hostname)\n"
        "echo x > written; echo y > $AML_IMAGES_OUTPUTS/written; . ./lib/other.sh\n"
    )
    job = make_job(shell_image, {"a.sh": script, "lib/other.sh": "echo sourced"})
    result = runner.run(job, print)
    assert result.logs[0].text == f"{build} base/tests trial /aml-images/code node0\nsourced\n"
    assert not (job.code / "written").exists()


def test_other_platforms_are_run_where_that_is_wanted_and_the_engine_can(runner, engine):
    own, foreign = f"linux/{engine.info().architecture}", "linux/s390x"
    assert (runner.runs(own), runner.runs(foreign)) == (True, False)
    assert runner.check([], [own]) == "local containers"
    emulating = ContainerRunner(emulated=lambda: [own, foreign])
    assert (emulating.runs(own), emulating.runs(foreign)) == (True, True)
    assert emulating.check([], [own, foreign]) == "local containers, emulated: linux/s390x"
    lacking = ContainerRunner(emulated=lambda: [own])
    with pytest.raises(BadInput, match="the engine emulates no linux/s390x") as refused:
        lacking.check([], [own, foreign])
    assert "qemu-user-static" in refused.value.hint


def test_failure_has_a_reason(runner, make_job, shell_image):
    result = runner.run(make_job(shell_image, {"a.sh": "echo the loss is nan; exit 3"}), print)
    assert (result.status, result.reason) == ("failed", "exit code 3: the loss is nan")


def test_the_reason_is_what_was_printed_last_to_standard_error(runner, make_job, shell_image):
    # The engine mixes up lines that come together: about every second of these jobs has the words the other way round.
    for number in range(6):
        job = make_job(shell_image, {"a.sh": f"echo accuracy 0.{number}; echo too low >&2; exit 1"})
        assert runner.run(job, print).reason == "exit code 1: too low"
    late = make_job(shell_image, {"a.sh": "echo a warning >&2; sleep 1; echo the loss is nan; exit 1"})
    assert runner.run(late, print).reason == "exit code 1: the loss is nan"


def test_time_out(runner, make_job, shell_image):
    began = time.monotonic()
    result = runner.run(make_job(shell_image, {"a.sh": "echo started; sleep 60"}, seconds=2), print)
    assert result.status == "timed out"
    assert result.reason == "timed out after 2 s; its last words: started"
    assert time.monotonic() - began < 40


def test_time_out_of_a_job_that_never_stops_talking(runner, make_job, shell_image):
    job = make_job(shell_image, {"a.sh": "while :; do echo still here; usleep 1000; done"}, seconds=2)
    # Lines come faster than they are passed on, so there is always one more.
    result = runner.run(job, lambda _: time.sleep(0.003))
    assert result.status == "timed out"


def test_out_of_memory(make_job, shell_image):
    runner = ContainerRunner(limits=Limits(memory_bytes=16 * 2**20, shared_memory_bytes=2**20))
    # tail keeps the last line, and this one has no end.
    result = runner.run(make_job(shell_image, {"a.sh": "exec tail -n 1 /dev/zero"}), print)
    assert (result.status, result.reason) == ("failed", "out of memory: the limit is 0.0156 GiB")


def test_memory_is_named_although_the_engine_hears_of_it_after_the_end(make_job, shell_image, monkeypatch):
    known, looks = container_job._state, []

    def late(container):
        looks.append(container)
        return {**known(container), "OOMKilled": len(looks) > 3}

    monkeypatch.setattr(container_job, "_state", late)
    result = ContainerRunner().run(make_job(shell_image, {"a.sh": "kill -9 $$"}), print)
    assert result.reason.startswith("out of memory")


def test_processes_are_limited(make_job, shell_image):
    runner = ContainerRunner(limits=Limits(processes=20))
    script = "for i in $(seq 40); do sleep 5 & done"
    result = runner.run(make_job(shell_image, {"a.sh": script}), print)
    assert result.status == "failed"
    assert "can't fork" in result.reason


def test_log_is_streamed_whole_and_kept_in_part(make_job, shell_image):
    runner = ContainerRunner(limits=Limits(log_characters=1000))
    lines = []
    result = runner.run(make_job(shell_image, {"a.sh": "seq 20000"}), lines.append)
    assert [line for line in lines if line.startswith("node0: ")] == [f"node0: {n}" for n in range(1, 20001)]
    kept = result.logs[0].text.splitlines()
    assert kept[0].endswith("lines before this one were not kept]")
    assert kept[-1] == "20000"
    assert len(result.logs[0].text) < 1100


@pytest.mark.parametrize(
    "report",
    ["truncate -s 10G $REPORT", "dd if=/dev/zero of=$REPORT bs=1M count=300 2>/dev/null", "ln -s /dev/zero $REPORT"],
)
def test_a_report_is_never_held_whole(runner, make_job, hostile_image, report):
    script = report.replace("$REPORT", "$AML_IMAGES_OUTPUTS/pytest.xml")
    job = make_job(hostile_image(f"{script}; echo the loss is nan; exit 1"), {"a.py": ""}, kind="pytest", path="a.py")
    lines = []
    with memory_growth() as memory:
        result = runner.run(job, lines.append)
    assert (result.status, result.reason) == ("failed", "exit code 1: the loss is nan")
    assert any("pytest.xml has more than" in line for line in lines) is ("ln -s" not in report)
    assert memory.peak < 100e6


def test_a_report_that_is_large_to_parse(runner, make_job, hostile_image):
    script = "yes '<a/>' | head -n 3000000 | (echo '<x>'; cat; echo '</x>') > $AML_IMAGES_OUTPUTS/pytest.xml; exit 1"
    job = make_job(hostile_image(script.replace("'", '"')), {"a.py": ""}, kind="pytest", path="a.py")
    with memory_growth() as memory:
        result = runner.run(job, print)
    assert result.status == "failed"
    assert memory.peak < 100e6


def test_output_without_line_ends_is_cut(runner, make_job, shell_image):
    script = "head -c 100000000 /dev/zero | tr '\\0' x; exit 3"
    lines = []
    with memory_growth() as memory:
        result = runner.run(make_job(shell_image, {"a.sh": script}, seconds=300), lambda line: lines.append(len(line)))
    assert (result.status, result.reason[:12]) == ("failed", "exit code 3:")
    assert max(lines) < 70_000
    assert sum(lines) < 70e6
    assert memory.peak < 100e6


def test_missing_python_is_a_failed_scenario(runner, make_job, busybox):
    result = runner.run(make_job(str(busybox), {"a.sh": "true"}), print)
    assert (result.status, result.reason) == ("failed", "python is not in the image's PATH")


def test_pull_failure(runner, make_job, shell_image, build):
    gone = f"{shell_image.partition('@')[0]}@sha256:{'0' * 64}"
    with pytest.raises(Unreachable, match="could not pull"):
        runner.run(make_job(gone, {"a.sh": "true"}), print)
    assert runner.live(build) == []


def test_no_engine(make_job, shell_image):
    runner = ContainerRunner("tcp://127.0.0.1:1")
    with pytest.raises(Unreachable, match="does not answer"):
        runner.run(make_job(shell_image, {"a.sh": "true"}), print)


def test_engine_of_another_operating_system(runner, make_job, shell_image):
    job = make_job(shell_image, {"a.py": ""}, os_="windows")
    with pytest.raises(Unreachable, match="is a windows image, and the engine runs linux containers"):
        runner.run(job, print)


def test_mpi_in_a_windows_image(runner, make_job, shell_image):
    job = make_job(shell_image, {"a.py": ""}, os_="windows", nodes=2, distribution="mpi")
    with pytest.raises(BadInput, match="Linux images only"):
        runner.run(job, print)


def test_ranks(runner, make_job, shell_image):
    variables = "$RANK $WORLD_SIZE $LOCAL_RANK $NODE_RANK $MASTER_ADDR $AZUREML_NODE_COUNT"
    script = f"echo {variables}; ping -c 1 $MASTER_ADDR >/dev/null && sleep 1"
    job = make_job(shell_image, {"a.sh": script}, nodes=2, distribution="pytorch", processes_per_node=2)
    result = runner.run(job, print)
    assert result.status == "passed", result.reason
    printed = {log.node: sorted(log.text.splitlines()) for log in result.logs}
    assert printed["node0"] == ["0 4 0 0 node0 2", "1 4 1 0 node0 2"]
    assert printed["node1"] == ["2 4 0 1 node0 2", "3 4 1 1 node0 2"]


@pytest.mark.parametrize("processes", [1, 2])
def test_one_rank_fails_and_all_are_ended(runner, make_job, shell_image, build, processes):
    job = make_job(
        shell_image,
        {"a.sh": f"if [ $RANK = {2 * processes - 1} ]; then echo no luck; exit 5; fi; sleep 60"},
        nodes=2,
        distribution="pytorch",
        processes_per_node=processes,
    )
    began = time.monotonic()
    result = runner.run(job, print)
    assert (result.status, result.reason) == ("failed", "node1: exit code 5: no luck")
    assert time.monotonic() - began < 40
    assert runner.live(build) == []


@pytest.mark.parametrize("spoil", ["rm -rf $AML_IMAGES_OUTPUTS", "mkdir $AML_IMAGES_OUTPUTS/.failure"])
def test_a_rank_that_fails_where_nothing_can_be_written_has_failed(runner, make_job, shell_image, spoil):
    script = f"if [ $RANK = 1 ]; then {spoil}; exit 3; fi; sleep 60"
    job = make_job(shell_image, {"a.sh": script}, distribution="pytorch", processes_per_node=2)
    result = runner.run(job, print)
    assert (result.status, result.reason.partition(":")[0]) == ("failed", "exit code 1")


def test_missing_mpirun(runner, make_job, shell_image):
    result = runner.run(make_job(shell_image, {"a.sh": "true"}, distribution="mpi"), print)
    assert (result.status, result.reason) == ("failed", "exit code 127: mpirun is not in the image's PATH")


def test_network_has_the_mtu_of_the_default_one(runner, engine, make_job, shell_image):
    result = runner.run(make_job(shell_image, {"a.sh": "cat /sys/class/net/eth0/mtu"}), print)
    assert result.logs[0].text == f"{engine.info().network_mtu}\n"


def test_no_new_privileges(runner, make_job, shell_image):
    result = runner.run(make_job(shell_image, {"a.sh": "grep NoNewPrivs /proc/self/status"}), print)
    assert result.logs[0].text.split() == ["NoNewPrivs:", "1"]


def test_cancel_from_another_process(runner, make_job, shell_image, build):
    job = make_job(shell_image, {"a.sh": "echo started; sleep 60"}, nodes=2, distribution="pytorch")
    results = []
    started = threading.Event()
    thread = threading.Thread(
        target=lambda: results.append(runner.run(job, lambda line: "started" in line and started.set()))
    )
    thread.start()
    assert started.wait(30)
    assert runner.live(build) == [f"{job.name}-node1", f"{job.name}-node0", job.name]
    script = (
        "import sys; from aml_images_dagster.testing.containers import ContainerRunner;"
        "print(*ContainerRunner().cancel(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", script, build], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == sorted([f"{job.name}-node1", f"{job.name}-node0", job.name])
    thread.join(15)
    assert [result.status for result in results] == ["canceled"]
    assert runner.live(build) == []


@pytest.mark.parametrize("moment", ["pulling", "started"])
def test_interrupt_leaves_nothing(runner, make_job, shell_image, build, moment):
    job = make_job(shell_image, {"a.sh": "echo started; sleep 60"}, nodes=2, distribution="pytorch")

    def interrupt(line):
        if moment in line:
            os.kill(os.getpid(), signal.SIGINT)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runner.run(job, interrupt)
    assert time.monotonic() - began < 40
    assert runner.live(build) == []
    assert _all_names(build) == []


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
def test_interrupt_while_containers_are_made(runner, make_job, shell_image, build, delay):
    job = make_job(shell_image, {"a.sh": "sleep 60"}, nodes=2, distribution="pytorch")
    alarm = threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGINT))

    def pulling(_):
        # The first line comes before anything is made.
        with contextlib.suppress(RuntimeError):
            alarm.start()

    with pytest.raises(KeyboardInterrupt):
        runner.run(job, pulling)
    assert _all_names(build) == []


def test_leftovers_of_a_crashed_process_are_replaced(runner, make_job, shell_image, build):
    job = make_job(shell_image, {"a.sh": "echo again"})
    labels = {"aml-images.build": build, "aml-images.job": job.name}
    client = docker.from_env()
    client.networks.create(job.name, labels=labels)
    client.containers.create(shell_image, name=f"{job.name}-node0", network=job.name, labels=labels)
    client.close()
    assert len(runner.live(build)) == 2
    assert runner.run(job, print).status == "passed"


def test_cancel_of_nothing(runner):
    assert runner.cancel("20260101.00000000") == []


def _all_names(build: str) -> list[str]:
    """Everything of a build that the engine lists, without asking the runner."""
    client = docker.from_env()
    try:
        part = build.replace(".", "-")
        names = [name for item in client.api.containers(all=True) for name in item["Names"]]
        names += [item["Name"] for item in client.api.networks()]
        names += [item["Name"] for item in client.api.volumes()["Volumes"] or []]
        return [name for name in names if part in name]
    finally:
        client.close()
