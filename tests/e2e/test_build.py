"""Whole builds: the command line, Dagster in its own processes, the engine and the registries, on busybox images."""

import hashlib
import json
import re
import signal
import time
import uuid

import dagster as dg
import docker
import pytest
import requests

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.defs.keys import STAGES
from tests.dagster_instance import open_instance
from tests.faults.alone import naming
from tests.memory import largest_of
from tests.records import write_withdrawal

pytestmark = [pytest.mark.engine, pytest.mark.e2e]


@pytest.fixture
def engine_client():
    client = docker.from_env()
    yield client
    client.close()


def staged_tags(repository, staging, build=""):
    return [tag for family in repository.families.values() for tag in staging.tags(family) if tag.endswith(build)]


def events_of(repository, build, kind):
    with open_instance(repository.root / ".aml-images" / "dagster") as instance:
        records = instance.get_records_for_run(build["run_id"], of_type=kind).records
        return [record.event_log_entry.dagster_event for record in records]


def unwrapped(text):
    return " ".join(text.split())


def steps_of(repository, build):
    return sorted(event.step_key for event in events_of(repository, build, dg.DagsterEventType.STEP_START))


def made_by(repository, build):
    events = events_of(repository, build, dg.DagsterEventType.ASSET_MATERIALIZATION)
    return {event.asset_key.path[-1] for event in events}


def actions(plan):
    return {image["image"]: image["action"] for image in plan["images"]}


def test_build_reuse_and_rebuild_of_what_changed(repository, staging):
    shell, hello, other = (repository.image(image) for image in ("tools/shell", "apps/hello", "apps/other"))

    first = repository.json("build", "--all", "--release-num", "7")
    assert first["status"] == "succeeded"
    folder = repository.artifacts / first["build"]
    release = json.loads((folder / "release.json").read_text())
    assert [f"{image['family']}/{image['name']}" for image in release["images"]] == sorted([shell, hello, other])
    assert release["release_tag"].endswith(".v7")
    assert release["commit"] == repository.git("rev-parse", "HEAD")
    for image in release["images"]:
        reference = Reference.parse(image["staging"]["reference"])
        assert staging.digest(reference) == image["staging"]["digest"]
        assert reference.tag == f"{image['name']}--{first['build']}"
        assert [test["status"] for test in image["tests"]] == ["passed"]
        labels = staging.config(reference)["config"]["Labels"]
        assert labels["org.opencontainers.image.revision"] == release["commit"]
        assert labels["com.microsoft.aml-images.content-key"] == image["content_key"]
    by_name = {f"{image['family']}/{image['name']}": image for image in release["images"]}
    assert by_name[hello]["bases"] == [
        {"reference": "registry.example/shell:latest", "digest": by_name[shell]["staging"]["digest"]}
    ]
    cfg = json.loads((folder / "import.cfg").read_text())
    assert [entry["source"]["imageName"] for entry in cfg] == [i["staging"]["reference"] for i in release["images"]]
    for line in (folder / "drop" / "SHA256SUMS").read_text().splitlines():
        digest, path = line.split("  ")
        assert hashlib.sha256((folder / "drop" / path).read_bytes()).hexdigest() == digest
    jobs = json.loads((folder / "run_information.json").read_text())["jobs"]
    assert sorted(job["image"] for job in jobs) == sorted([shell, hello, other])
    assert all(job["status"] == "passed" for job in jobs)
    assert "running on" in (folder / ".records" / hello / "logs" / "runs.node0.log").read_text()
    observed = {
        event.asset_key.path[-1]: event for event in events_of(repository, first, dg.DagsterEventType.ASSET_OBSERVATION)
    }
    shown = observed[f"{hello.partition('/')[2]}.staged"].asset_observation_data.asset_observation.metadata
    (spdx,) = re.findall(r"\[SPDX\]\((\S+)\)", shown["sbom"].value)
    assert requests.get(spdx, timeout=10).json()["spdxVersion"] == "SPDX-2.3"
    assert "proves nothing" in shown["signed_by"].value
    assert repository.json("show", hello)["evidence"]["packages"] == shown["packages"].value
    assert "SPDX, signature, CycloneDX, provenance, test results; signed by" in unwrapped(
        repository.run("show", hello).stdout
    )

    assert set(actions(repository.json("build", "--all", "--dry-run")).values()) == {"reuse"}
    second = repository.json("build", "--all")
    assert second["status"] == "succeeded"
    assert {image["image"]: image["reused"] for image in second["images"]} == {shell: True, hello: True, other: True}
    assert second["jobs"] == []
    assert {i["image"]: i["staged"]["digest"] for i in second["images"]} == {
        i["image"]: i["staged"]["digest"] for i in first["images"]
    }

    (repository.folder("tools/shell") / "greeting").write_text("good day\n")
    plan = repository.json("build", "--all", "--dry-run")
    assert actions(plan) == {shell: "build", hello: "build", other: "reuse"}
    because = {image["image"]: image["because"] for image in plan["images"]}
    assert because[shell] == ["context: greeting changed"]
    assert because[hello] == [f"its base {shell} is rebuilt"]
    third = repository.json("build", "--all")
    assert {image["image"]: image["reused"] for image in third["images"]} == {shell: False, hello: False, other: True}
    why = {image["image"]: image["staged"]["because"] for image in third["images"]}
    assert why == because | {other: [f"passed in build {first['build']}"]}
    release = json.loads((repository.artifacts / third["build"] / "release.json").read_text())
    assert {f"{image['family']}/{image['name']}": image["because"] for image in release["images"]} == why

    with (repository.folder("apps/other") / "Dockerfile").open("a") as dockerfile:
        dockerfile.write("RUN true\n")
    fourth = repository.json("build", "--all")
    files = {"release.json", "import.cfg", "drop"}
    assert (steps_of(repository, second), made_by(repository, second)) == (["release_files"], files)
    leaf = other.partition("/")[2]
    assert made_by(repository, fourth) == files | {f"{leaf}.{stage}" for stage in STAGES}
    steps = [step.rpartition("__")[2] for step in steps_of(repository, fourth)]
    assert steps == [f"{leaf}_staged", f"{leaf}_tested", "release_files"]
    builds = repository.json("builds")
    assert [build["build"] for build in builds] == [build["build"] for build in (fourth, third, second, first)]
    assert {build["status"] for build in builds} == {"succeeded"}


def test_a_failing_scenario_takes_the_build_back(repository, staging):
    (repository.root / "checks" / "runs.py").write_text("echo all is well; echo loss is rising >&2; exit 3\n")
    done = repository.run("build", "--all")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "loss is rising" in done.stderr
    assert "scenario 'runs'" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (build,) = repository.json("builds")
    assert build["status"] == "failed"
    folder = repository.artifacts / build["build"]
    assert not [name for name in ("release.json", "import.cfg", "drop") if (folder / name).exists()]
    assert staged_tags(repository, staging) == []


def test_images_without_tests_are_built_and_shown_as_not_tested(repository, staging):
    for image in ("tools/shell", "apps/hello"):
        (repository.folder(image) / "tests.json").unlink()
    built = repository.json("build", repository.image("tools/shell"), repository.image("apps/hello"))
    assert built["status"] == "succeeded"
    assert [image["tests"] for image in built["images"]] == [[], []]
    forced = repository.json("build", repository.image("apps/hello"), "--force")
    assert [image["reused"] for image in forced["images"]] == [False]


def test_a_dockerfile_that_fails_shows_its_log(repository, staging):
    with (repository.folder("apps/hello") / "Dockerfile").open("a") as dockerfile:
        dockerfile.write("RUN echo nothing like it; false\n")
    failed = repository.run("build", "--all", "--json")
    assert failed.returncode == 1
    document = json.loads(failed.stdout)
    error, failure = document["error"], document["failure"]
    assert (failure.keys(), error.keys()) == ({"step", "message", "log"}, {"what", "where", "hint"})
    assert failure["message"] == f"{error['where']}: {error['what']}\n  {error['hint']}"
    assert "nothing like it" in failure["log"]
    done = repository.run("build", "--all")
    assert done.returncode == 1
    assert "nothing like it" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert staged_tags(repository, staging) == []


def test_a_commit_is_built_from_its_own_tree(repository, staging):
    old = repository.git("rev-parse", "HEAD")
    (repository.folder("tools/shell") / "greeting").write_text("later\n")
    (repository.folder("apps/other") / "Dockerfile").unlink()
    repository.commit("later")
    (repository.folder("tools/shell") / "greeting").write_text("never committed\n")
    result = repository.json("build", repository.image("apps/other"), repository.image("tools/shell"), "--head", old)
    assert result["commit"] == old
    kept = repository.artifacts / result["build"] / "sources" / "images"
    assert kept.is_dir()
    folder = repository.folder("tools/shell").relative_to(repository.root)
    assert (repository.artifacts / result["build"] / "sources" / folder / "greeting").read_text() == "hello\n"


def test_a_parent_that_can_not_be_had_is_built_with_its_child(repository):
    plan = repository.json("build", repository.image("apps/hello"), "--dry-run")
    assert actions(plan) == {repository.image("tools/shell"): "build", repository.image("apps/hello"): "build"}
    reasons = {image["image"]: image["reasons"] for image in plan["images"]}
    assert "is built FROM it" in reasons[repository.image("tools/shell")][0]


def test_an_interrupted_build_is_cleaned_up(repository, staging, engine_client):
    (repository.root / "checks" / "runs.py").write_text("echo sleeping; exec sleep 300\n")
    process = repository.start("build", repository.image("tools/shell"))
    deadline = time.monotonic() + 120
    mine = {"label": f"aml-images.image={repository.image('tools/shell')}"}
    while not (containers := engine_client.containers.list(ignore_removed=True, filters=mine)):
        assert time.monotonic() < deadline, "no job was started"
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    build = containers[0].labels["aml-images.build"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert "Stack Trace" not in out + err
    assert f"{build} was canceled" in err
    assert staged_tags(repository, staging) == []
    assert (
        engine_client.containers.list(ignore_removed=True, all=True, filters={"label": f"aml-images.build={build}"})
        == []
    )
    assert engine_client.networks.list(filters={"label": f"aml-images.build={build}"}) == []
    assert [(b["build"], b["status"]) for b in repository.json("builds")] == [(build, "canceled")]


def test_a_build_that_is_interrupted_before_its_first_step_is_canceled(repository, staging):
    process = repository.start("build", repository.image("tools/shell"))
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    build = first.split()[1]
    assert first.startswith(f"build {build} started")
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert f"build {build} was canceled" in err
    assert f"build {build} was cleaned up" in out
    status = repository.json("status", build)
    assert (status["status"], status["trigger"]) == ("canceled", "command line")
    assert [image["image"] for image in status["images"]] == [repository.image("tools/shell")]
    assert staged_tags(repository, staging) == []


def test_a_build_that_is_interrupted_before_it_starts_leaves_nothing(repository):
    process = repository.start("build", repository.image("tools/shell"))
    logs, deadline = repository.root / ".aml-images" / "logs", time.monotonic() + 120
    while not logs.exists() or not any(logs.iterdir()):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert "Interrupted" in err
    assert repository.json("builds") == []


def test_logs_of_a_failed_build_say_once_why_it_failed(repository):
    image = repository.image("tools/shell")
    (repository.root / "checks" / "runs.py").write_text("echo to be seen; echo it is broken; exit 3\n")
    assert repository.run("build", image).returncode == 1
    shown = repository.run("logs", "latest").stdout
    for noise in ("Stack Trace", "DEBUG", "LOGS_CAPTURED", "ASSET_OBSERVATION"):
        assert noise not in shown
    assert [line for line in shown.splitlines() if "to be seen" in line] == ["node0: to be seen"]
    assert f"{image}: scenario 'runs' failed: exit code 3: it is broken" in shown
    assert repository.run("logs", "latest", image, "runs").stdout.splitlines()[1:] == ["to be seen", "it is broken"]
    with open_instance(repository.root / ".aml-images" / "dagster") as instance:
        (run,) = instance.get_runs()
        kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
        records = instance.get_records_for_run(run.run_id, of_type=kinds).records
        events = [record.event_log_entry.dagster_event for record in records]
    errors = [(e.step_failure_data if e.is_step_failure else e.job_failure_data).error for e in events]
    assert len(errors) == 2
    assert [error.stack for error in errors if error is not None and error.stack] == []


def test_when_one_scenario_fails_everything_else_of_the_build_ends(repository, staging, engine_client):
    """The job of another image, in another process, and a build that is under way: both would take minutes."""
    shell, other, slow = (repository.image(image) for image in ("tools/shell", "apps/other", "apps/slow"))
    scripts = {"tools/shell": "sleep 300", "apps/other": "until [ -e /go ]; do sleep 0.1; done; exit 3"}
    for image, script in scripts.items():
        name = f"{image.partition('/')[2]}.py"
        repository.write(repository.root / "checks" / name, f"{script}\n")
        scenarios = [{"name": "waits", "kind": "training", "script": name}]
        tests = {"scenarios": scenarios, "timeout_minutes": 10}
        repository.write(repository.folder(image) / "tests.json", json.dumps(tests))
    mark = uuid.uuid4().hex
    repository.write_image("apps/slow", f"FROM busybox\nRUN : {mark}; sleep 300; true\n")
    process = repository.start("build", shell, other, slow, AML_IMAGES_PARALLEL="3")

    def jobs():
        label = f"aml-images.image={other}", f"aml-images.image={shell}"
        return [engine_client.containers.list(ignore_removed=True, filters={"label": one}) for one in label]

    def building():
        return [*naming(f": {mark};")]

    deadline = time.monotonic() + 120
    while not all(jobs()) or not building():
        assert time.monotonic() < deadline, "not everything was started"
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    (failing,), _ = jobs()
    build = failing.labels["aml-images.build"]
    failed_at = time.monotonic()
    failing.exec_run(["touch", "/go"])
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - failed_at < 40
    assert process.returncode == 1
    assert f"{other} tested: failed" in out
    assert f"{shell} tested: stopped" in out
    assert f"{slow} staged: stopped" in out
    assert "scenario 'waits' failed: exit code 3" in err
    assert not building()
    assert staged_tags(repository, staging) == []
    assert (
        engine_client.containers.list(ignore_removed=True, all=True, filters={"label": f"aml-images.build={build}"})
        == []
    )
    status = repository.json("status", build)
    assert {job["image"]: job["status"] for job in status["jobs"]} == {other: "failed", shell: "canceled"}
    assert status["failure"]["step"].endswith("__other_tested")
    assert "scenario 'waits' failed" in status["failure"]["message"]
    logs = repository.json("logs", build, other)["logs"]
    assert {name for name in logs if name.endswith("other_tested")}
    assert not {name for name in logs if "shell" in name}
    shown = repository.run("status", build).stdout
    assert f"failed in {status['failure']['step']}" in shown
    assert "scenario 'waits' failed" in shown


def test_a_report_of_ten_gigabytes_fills_the_memory_of_no_step(repository):
    other = repository.image("apps/other")
    report = "for word; do case $word in --junitxml=*) truncate -s 10G ${word#*=}; esac; done; exit 1"
    repository.write(repository.folder("apps/other") / "python3", f"#!/bin/sh\n{report}\n")
    repository.write(repository.root / "checks" / "test_it.py", "def test_it(): ...\n")
    tests = {"scenarios": [{"name": "it", "kind": "pytest", "path": "checks"}]}
    repository.write_image("apps/other", "FROM busybox\nCOPY python3 /bin/\nRUN chmod +x /bin/python3\n", tests)
    process = repository.start("build", other)
    peak = largest_of(process)
    out, err = process.communicate()
    assert process.returncode == 1, out + err
    assert "scenario 'it' failed" in out + err
    print(f"the largest process: {peak / 1e6:.0f} MB")
    assert 50e6 < peak < 300e6


def test_a_build_of_what_was_withdrawn_says_so_before_and_after(repository):
    other = repository.image("apps/other")
    repository.write(repository.folder("apps/other") / "Dockerfile", "FROM busybox:latest\n")
    (repository.folder("apps/other") / "tests.json").unlink()
    repository.write(repository.folder("apps/other") / "image.json", '{"rewrite_timestamp": true}')
    repository.commit("an image without tests, of which each build of the commit makes the same")
    built = repository.json("build", other, "--force")
    digest = built["images"][0]["staged"]["digest"]
    write_withdrawal(Artifacts(str(repository.artifacts)), other, digest)
    said = f"This build cannot be released: {other} is the image of v1, which was withdrawn"
    assert said in repository.run("build", other, "--dry-run").stderr
    assert said not in repository.run("build", other, "--dry-run", "--force").stderr, "it may become another one"
    again = repository.run("build", other, "--force")
    assert (said in again.stderr, said in again.stdout) == (False, True), "the same commit has made it again"
    assert repository.json("status", "latest")["images"][0]["staged"]["digest"] == digest
