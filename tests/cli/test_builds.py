"""`builds` and `status`, from the records that builds have written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import dagster as dg
import pytest

from aml_images_dagster.builds.artifacts import Artifacts, BuildFolder
from aml_images_dagster.builds.housekeeping.cleanup import cleanup
from aml_images_dagster.builds.ledger import Ledger, TagChange
from aml_images_dagster.builds.process import this_process
from aml_images_dagster.builds.records import (
    BaseImage,
    BuildFailure,
    BuildStatus,
    EvidenceRecord,
    JobRecord,
    Plan,
    PlannedImage,
    PlannedScenario,
    StagedPlatform,
    TestedImage,
)
from aml_images_dagster.cli.instance import CONFIGURATION
from aml_images_dagster.cli.status import unchanged_images
from aml_images_dagster.defs.keys import BUILD_JOB
from aml_images_dagster.defs.run_state import process_tag
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
from tests.dagster_instance import open_instance
from tests.records import DIGEST, KEY, NOW, begun_release, build_record, passed_scenario, staged_image, write_withdrawal

if TYPE_CHECKING:
    from tests.image_repository import ImageRepository

EARLIER, LATER = "20261122.bbbbbbbb", "20261123.aaaaaaaa"


@pytest.fixture
def repository(repository: ImageRepository) -> ImageRepository:
    """With two builds: one that succeeded, and one that was canceled after its first image."""
    artifacts = Artifacts(str(repository.artifacts))
    for number, days, status in ((EARLIER, 1, "succeeded"), (LATER, 0, "canceled")):
        folder = artifacts.build(number)
        folder.write_build(
            build_record(
                number,
                status=status,
                commit="abc-dirty",
                created=NOW - timedelta(days=days),
                trigger="command line",
                images=("apps/other", "tools/shell"),
            )
        )
        folder.write_staged(
            staged_image(
                "apps/other",
                number,
                size_bytes=2_500_000,
                layers=2,
                seconds=1.5,
                reasons=("modified: a [/b] c",),
                bases=(BaseImage(reference="busybox", digest=DIGEST),),
                built_in=EARLIER,
                dockerfile="FROM busybox\n",
            )
        )
    scenario = passed_scenario("runs", EARLIER, job="job-1", seconds=2.5)
    folder = artifacts.build(EARLIER)
    folder.write_tested(TestedImage(image="apps/other", digest=DIGEST, scenarios=(scenario,)))
    folder.write_job(
        JobRecord(
            job="job-1",
            build=EARLIER,
            image="apps/other",
            scenario="runs",
            attempt=1,
            place="here",
            reference=f"staging.example/apps@{DIGEST}",
            status="passed",
            submitted=NOW,
        )
    )
    return repository


def test_builds_newest_first(repository: ImageRepository) -> None:
    assert repository.json("builds") == [
        {
            "build": number,
            "status": status,
            "waiting": "",
            "commit": "abc-dirty",
            "release_tag": "20261123.v1",
            "release": "",
            "trigger": "command line",
            "pull_request": "",
            "created": created,
            "artifacts": (repository.artifacts / number).as_uri(),
            "images": ["apps/other", "tools/shell"],
        }
        for number, status, created in (
            (LATER, "canceled", "2026-11-23T12:00:00+00:00"),
            (EARLIER, "succeeded", "2026-11-22T12:00:00+00:00"),
        )
    ]
    shown = repository.run("builds", COLUMNS="200").stdout
    assert shown.index(LATER) < shown.index(EARLIER)
    assert "abc-dirty" in shown


def test_status_for_programs(repository: ImageRepository) -> None:
    found = repository.json("status", EARLIER)
    assert found["build"] == EARLIER
    assert found["status"] == "succeeded"
    assert found["release_tag"] == "20261123.v1"
    assert found["artifacts"] == (repository.artifacts / EARLIER).as_uri()
    other, shell = found["images"]
    assert other["image"] == "apps/other"
    assert other["staged"]["digest"] == DIGEST
    assert other["staged"]["bases"] == [{"reference": "busybox", "digest": DIGEST}]
    assert other["content_key"] == KEY.digest
    assert other["reused"] is False
    assert [test["scenario"] for test in other["tests"]] == ["runs"]
    assert shell.pop("image") == "tools/shell"
    assert set(shell.values()) == {None}
    assert [job["job"] for job in found["jobs"]] == ["job-1"]
    assert repository.json("status", LATER)["images"][0]["reused"] is True


def test_status_for_people(repository: ImageRepository) -> None:
    shown = repository.run("status", EARLIER, COLUMNS="200").stdout
    for text in (
        EARLIER,
        "succeeded",
        "apps/other",
        "2.5 MB",
        "runs passed 2.5 s",
        "modified: a [/b] c",
        "tools/shell",
    ):
        assert text in shown
    assert f"reused from {EARLIER}" in repository.run("status", LATER, COLUMNS="200").stdout


def test_status_of_an_image_for_several_platforms(repository: ImageRepository) -> None:
    folder = Artifacts(str(repository.artifacts)).build(EARLIER)
    staged, tested = folder.read_staged("apps/other"), folder.read_tested("apps/other")
    assert staged is not None
    assert tested is not None
    sizes = {"linux/amd64": 2_500_000, "linux/arm64": 3_000_000}
    platforms = tuple(
        StagedPlatform(platform=platform, digest=DIGEST, size_bytes=size, layers=2, notices={})
        for platform, size in sizes.items()
    )
    folder.write_staged(staged.model_copy(update={"platforms": platforms}))
    ran = tuple(scenario.model_copy(update={"platform": "linux/amd64"}) for scenario in tested.scenarios)
    folder.write_tested(tested.model_copy(update={"scenarios": ran, "untested": ("linux/arm64",)}))
    shown = repository.run("status", EARLIER, COLUMNS="200").stdout
    for text in (
        "2.5 MB (linux/amd64)",
        "3.0 MB (linux/arm64)",
        "runs (linux/amd64) passed 2.5 s",
        "not tested on linux/arm64",
    ):
        assert text in shown
    other = repository.json("status", EARLIER)["images"][0]
    assert other["untested"] == ["linux/arm64"]
    assert [each["size_bytes"] for each in other["staged"]["platforms"]] == list(sizes.values())


def test_a_build_of_a_pull_request_says_so(repository: ImageRepository) -> None:
    folder = rewrite(repository, "partial", trigger="pull request", pull_request="12")
    (shown, other) = repository.json("builds")
    assert (shown["trigger"], shown["pull_request"]) == ("pull request", "12")
    assert (other["trigger"], other["pull_request"]) == ("command line", "")
    found = repository.json("status", LATER)
    assert (found["trigger"], found["pull_request"]) == ("pull request", "12")
    for command in (("builds",), ("status", LATER)):
        assert "pull request 12" in repository.run(*command, COLUMNS="200").stdout
    refused = repository.run("release", LATER)
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        f"aml-images: {folder.root}: build {LATER} is for pull request 12, and such builds are never released\n"
    )


def test_builds_of_another_place(repository: ImageRepository) -> None:
    elsewhere = str(repository.root / "elsewhere")
    assert repository.json("builds", AML_IMAGES_ARTIFACTS=elsewhere) == []
    repository.artifacts.rename(elsewhere)
    assert len(repository.json("builds", AML_IMAGES_ARTIFACTS=elsewhere)) == 2
    assert repository.json("builds") == []
    assert len(repository.json("builds", AML_IMAGES_ARTIFACTS="elsewhere")) == 2


def rewrite(repository: ImageRepository, status: BuildStatus, **fields: object) -> BuildFolder:
    """Let the later build be something else."""
    folder = Artifacts(str(repository.artifacts)).build(LATER)
    record = folder.read_build()
    assert record is not None
    folder.write_build(record.model_copy(update={"status": status, **fields}))
    return folder


@pytest.mark.parametrize("status", get_args(BuildStatus))
def test_every_status_is_shown(repository: ImageRepository, status: BuildStatus) -> None:
    rewrite(repository, status)
    for command in (("builds",), ("status", LATER)):
        done = repository.run(*command, COLUMNS="80")
        assert done.returncode == 0, done.stderr
        assert status in done.stdout


@pytest.mark.parametrize(("before", "after"), [("failed", "failed"), ("expired", "expired"), ("running", "canceled")])
def test_a_cleanup_does_not_rewrite_how_a_build_ended(
    repository: ImageRepository, before: BuildStatus, after: BuildStatus
) -> None:
    folder = rewrite(repository, before)
    assert repository.run("cleanup", LATER, DOCKER_HOST="unix:///nowhere.sock").returncode == 1
    record = folder.read_build()
    assert record is not None
    assert record.status == after


@pytest.mark.parametrize("option", ["--yes", "--force"])
def test_a_build_that_had_succeeded_and_was_cleaned_up_is_called_removed(
    repository: ImageRepository, option: str
) -> None:
    if option == "--force":
        Ledger(Artifacts(str(repository.artifacts))).append(begun_release(EARLIER))
    repository.run("cleanup", EARLIER, option, DOCKER_HOST="unix:///nowhere.sock")
    assert repository.json("status", EARLIER)["status"] == "removed"
    refused = repository.run("release", EARLIER)
    assert (refused.returncode, "was removed from staging" in refused.stderr) == (2, True)


def released(repository: ImageRepository, *images: str) -> None:
    """Let a release of the earlier build begin."""
    changes = tuple(
        TagChange(image=image, repository=f"public/{image}", tag=tag, before=None, after=DIGEST)
        for tag in ("20261123.v1", "latest")
        for image in images
    )
    Ledger(Artifacts(str(repository.artifacts))).append(begun_release(EARLIER, changes=changes))


def withdraw(repository: ImageRepository, image: str) -> None:
    ledger = Ledger(Artifacts(str(repository.artifacts)))
    change = TagChange(image=image, repository=f"public/{image}", tag="20261123.v1", before=DIGEST, after=None)
    ledger.complete(ledger.begin("withdrawal", ledger.records()[0], (change,), "somebody", "a hole"), "somebody")


def test_status_and_builds_say_how_the_release_of_a_build_stands(repository: ImageRepository) -> None:
    def said() -> tuple[str, str]:
        """What programs read; both commands say the same, and people read it in both."""
        word = next(each["release"] for each in repository.json("builds") if each["build"] == EARLIER)
        assert word in " ".join(repository.run("builds", COLUMNS="200").stdout.split())
        found = repository.json("status", EARLIER)["release"]
        return word, found and found["state"]

    images = ("apps/other", "tools/shell")
    assert said() == ("", None)
    released(repository, *images)
    assert said() == ("release not completed", "not completed")
    assert f"`aml-images release {EARLIER}` continues it" in repository.run("status", EARLIER, COLUMNS="200").stdout
    ledger = Ledger(Artifacts(str(repository.artifacts)))
    ledger.complete(ledger.records()[0], "somebody else")
    assert said() == ("released", "released")
    assert "released as 20261123.v1 by somebody else" in repository.run("status", EARLIER, COLUMNS="200").stdout
    withdraw(repository, "apps/other")
    assert said() == ("partly withdrawn", "partly withdrawn")
    assert "withdrawn: apps/other" in repository.run("status", EARLIER, COLUMNS="200").stdout
    withdraw(repository, "tools/shell")
    assert said() == ("withdrawn", "withdrawn")


def test_status_of_a_build_that_is_kept_says_until_when(repository: ImageRepository) -> None:
    until = NOW + timedelta(days=36500)
    rewrite(repository, "failed", keep_until=until)
    said = f"kept for inspection until {until:%Y-%m-%d %H:%M} UTC"
    assert said not in repository.run("status", LATER, COLUMNS="200").stdout, "nothing has kept it yet"
    cleanup(LATER, backends_for(load_settings(repo=repository.root)), "failed")
    for columns in ("60", "200"):
        assert said in " ".join(repository.run("status", LATER, COLUMNS=columns).stdout.split())
    assert repository.json("status", LATER)["is_kept"] is True


def failed_build(repository: ImageRepository) -> BuildFolder:
    """Of apps/other: one scenario has passed, the other has failed."""
    folder = rewrite(repository, "failed")
    for number, (scenario, status) in enumerate((("contract", "passed"), ("runs", "failed")), 1):
        about = {"build": LATER, "image": "apps/other", "scenario": scenario, "attempt": 1, "place": "here"}
        about |= {"job": f"job-{number}", "reference": f"staging.example/apps@{DIGEST}", "status": status}
        times = {"submitted": NOW, "finished": NOW + timedelta(seconds=number)}
        folder.write_job(JobRecord.model_validate(about | times))
        folder.write_log("apps/other", f"{scenario}.node-0.log", f"{scenario} was here\n")
    return folder


def test_status_of_a_failed_build_shows_what_passed_and_what_failed(repository: ImageRepository) -> None:
    failed_build(repository)
    shown = repository.run("status", LATER, COLUMNS="200").stdout
    assert "contract passed 1.0 s" in shown
    assert "runs failed 2.0 s" in shown


def test_status_of_a_failed_build_says_of_every_image_what_became_of_it(repository: ImageRepository) -> None:
    failure = BuildFailure(step="apps__un_staged_staged", message="exit code: 1")
    folder = rewrite(repository, "failed", failure=failure, images=("apps/un-staged", "apps/later"))
    planned = [
        PlannedImage(image=image, action="build", because=(), reasons=(f"added: {image}",), bases=(), scenarios=())
        for image in ("apps/un-staged", "apps/later")
    ]
    folder.write_plan(Plan(commit="abc", images=tuple(planned)))

    def rows() -> list[list[str]]:
        lines = repository.run("status", LATER, COLUMNS="200").stdout.splitlines()
        return [re.split(r"  +", line.strip()) for line in lines if line.startswith(" apps/")]

    assert rows() == [
        ["apps/un-staged", "-", "-", "failed", "-", "added: apps/un-staged"],
        ["apps/later", "-", "-", "not built", "-", "added: apps/later"],
    ]
    folder.write_staged(staged_image("apps/un-staged", LATER))
    assert rows()[0][3] == "failed, built in 1.0 s"
    rewrite(repository, "running", failure=None, images=("apps/later",))
    assert rows() == [["apps/later", "-", "-", "-", "-", "added: apps/later"]]


@pytest.mark.parametrize("name", ["latest", LATER, LATER[:10], "20261123"])
def test_a_build_is_named_by_what_is_enough(repository: ImageRepository, name: str) -> None:
    assert repository.json("status", name)["build"] == LATER


@pytest.mark.parametrize("command", [("status",), ("logs",), ("release",), ("cleanup",)])
def test_several_builds_that_begin_alike_are_one_message(repository: ImageRepository, command: tuple[str, ...]) -> None:
    done = repository.run(*command, "202611")
    assert (done.returncode, done.stdout) == (2, "")
    assert "2 builds begin with '202611'" in done.stderr
    assert f"Give more of the number: {LATER}, {EARLIER}." in done.stderr


def test_of_several_builds_of_a_day_the_newest_are_named(repository: ImageRepository) -> None:
    """Their numbers do not say which; and of one that has no record it is not known."""
    artifacts = Artifacts(str(repository.artifacts))
    numbers = [f"{LATER[:9]}{digit * 8}" for digit in "2f18"]
    for minutes, number in enumerate(numbers, 1):
        record = build_record(number, created=NOW + timedelta(minutes=minutes), status="succeeded")
        artifacts.build(number).write_build(record)
    artifacts.build(f"{LATER[:9]}{'e' * 8}").root.mkdir()
    done = repository.run("status", LATER[:9])
    assert f"6 builds begin with '{LATER[:9]}'" in done.stderr
    assert f"Give more of the number: {', '.join((*numbers[::-1], LATER))} and 1 more." in done.stderr


def test_the_dry_run_of_a_release_takes_latest(repository: ImageRepository) -> None:
    done = repository.run("release", "latest", "--dry-run")
    assert f"build {LATER} was canceled; only a complete build is released" in " ".join(done.stderr.split())


@pytest.mark.parametrize("command", ["release", "cleanup"])
def test_what_changes_something_takes_no_latest(repository: ImageRepository, command: str) -> None:
    done = repository.run(command, "latest")
    assert done.returncode == 2
    assert "`latest` is only for commands that change nothing" in done.stderr


def test_builds_of_an_image_and_released_ones(repository: ImageRepository) -> None:
    rewrite(repository, "succeeded", images=("tools/shell",))
    change = TagChange(image="apps/other", repository="public/other", tag="v1", before=None, after=DIGEST)
    Ledger(Artifacts(str(repository.artifacts))).append(begun_release(EARLIER, changes=(change,)))

    def builds(*options: str) -> list[str]:
        return [build["build"] for build in repository.json("builds", *options)]

    assert builds("--image", "other") == [EARLIER]
    assert builds("--image", "tools/shell") == [LATER, EARLIER]
    assert builds("--image", "tools/shell", "--limit", "1") == [LATER]
    assert builds("--released") == [EARLIER]
    assert repository.run("builds", "--image", "tools/shel").stderr.count("Did you mean tools/shell?") == 1


def test_logs_of_tests(repository: ImageRepository) -> None:
    failed_build(repository)
    shown = repository.run("logs", "latest").stdout
    assert "==> apps/other contract.node-0 <==\ncontract was here\n" in shown
    assert "==> apps/other runs.node-0 <==\nruns was here\n" in shown
    assert repository.run("logs", LATER, "other", "runs").stdout.splitlines()[1:] == ["runs was here"]
    assert repository.json("logs", LATER, "other", "contract")["logs"] == {
        "apps/other contract.node-0": "contract was here\n"
    }
    assert "has no logs of tools/shell" in repository.run("logs", LATER, "shell").stdout
    assert "Did you mean apps/other?" in repository.run("logs", LATER, "othr").stderr


def test_a_scenario_that_an_image_does_not_have_is_a_mistake(repository: ImageRepository) -> None:
    failed_build(repository)
    done = repository.run("logs", LATER, "other", "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert "apps/other has no scenario 'run'" in done.stderr
    assert "Did you mean runs?" in done.stderr
    assert "It has contract, runs." in repository.run("logs", LATER, "other", "zzz").stderr


def test_status_of_a_failed_build_shows_scenarios_that_passed_before(repository: ImageRepository) -> None:
    folder = failed_build(repository)
    scenarios = [PlannedScenario(name=name, status=status) for name, status in (("old", "passed"), ("runs", "run"))]
    image = PlannedImage(
        image="apps/other", action="reuse", because=(), reasons=(), bases=(), scenarios=tuple(scenarios)
    )
    folder.write_plan(Plan(commit="abc", images=(image,)))
    shown = repository.run("status", LATER, COLUMNS="200").stdout
    for text in ("old passed before", "contract passed 1.0 s", "runs failed 2.0 s"):
        assert text in shown


def test_logs_are_followed_until_the_build_has_ended(repository: ImageRepository) -> None:
    folder = rewrite(repository, "running")
    folder.write_log("apps/other", "runs.node-0.log", "first\n")
    process = repository.start("logs", LATER, "--follow")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)][1] == "first\n"
    folder.write_log("apps/other", "runs.node-0.log", "first\nsecond\n")
    folder.finish("failed")
    rest, err = process.communicate(timeout=60)
    assert (process.returncode, rest, err) == (0, "second\n", "")


@pytest.mark.parametrize("ending", ["a part of the chain", "killed"])
def test_logs_are_followed_until_the_run_has_ended(repository: ImageRepository, ending: str) -> None:
    """A build of a part of the chain stays `partial`, and one that was killed `running` until it is cleaned up."""
    home = repository.root / ".aml-images" / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").symlink_to(CONFIGURATION)
    folder = rewrite(repository, "running" if ending == "killed" else "partial")
    folder.write_log("apps/other", "runs.node-0.log", "first\n")
    record = folder.read_build()
    assert record is not None
    with open_instance(home) as instance:
        instance.add_run(dg.DagsterRun(BUILD_JOB, run_id=record.run_id, status=dg.DagsterRunStatus.STARTED))
        process = repository.start("logs", LATER, "--follow")
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)][1] == "first\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        run = instance.get_run_by_id(record.run_id)
        if ending == "killed":
            instance.add_run_tags(run.run_id, process_tag(run, f"{this_process()}1"))
        else:
            instance.report_run_canceled(run)
        rest, err = process.communicate(timeout=60)
    assert (process.returncode, rest, err) == (0, "", "")


def test_show_says_what_became_of_the_image(repository: ImageRepository) -> None:
    change = TagChange(image="apps/other", repository="public/other", tag="v1", before=None, after=DIGEST)
    ledger = Ledger(Artifacts(str(repository.artifacts)))
    ledger.complete(ledger.append(begun_release(EARLIER, changes=(change,))), "somebody")
    Artifacts(str(repository.artifacts)).build(LATER).write_staged(
        staged_image("apps/other", LATER, size_bytes=3_100_000)
    )
    shown = repository.run("show", "other", COLUMNS="200").stdout
    assert f"{LATER} canceled, 2026-11-23" in shown
    assert re.search(r"release +not known: .*127.0.0.1:9.* does not answer", shown), "what it serves decides"
    assert "3.1 MB (2.5 MB → 3.1 MB)" in shown
    document = repository.json("show", "other")
    assert [build["size_bytes"] for build in document["builds"]] == [3_100_000, 2_500_000]
    assert document["release"] is None
    assert "does not answer" in document["unknown"]
    assert [build["withdrawn"] for build in document["builds"]] == [False, False]
    write_withdrawal(Artifacts(str(repository.artifacts)), "apps/other", DIGEST, tag="v2")
    assert f"{LATER} canceled, 2026-11-23, withdrawn" in repository.run("show", "other", COLUMNS="200").stdout
    assert [build["withdrawn"] for build in repository.json("show", "other")["builds"]] == [True, True]
    evidence = EvidenceRecord(
        image="apps/other",
        digest=DIGEST,
        artifacts=(),
        signed_by="CN=test key that proves nothing,O=host",
        is_test_key=True,
        packages=1,
        without_licence=0,
        attached_in=LATER,
    )
    folder = Artifacts(str(repository.artifacts)).build(LATER)
    for signer, said in (("CN=test key that proves nothing", ""), ("CN=ours", ", a test key that proves nothing")):
        folder.write_evidence(evidence.model_copy(update={"signed_by": signer}))
        assert f"signed by {signer}{said}; build {LATER}" in repository.run("show", "other", COLUMNS="300").stdout
    hello = repository.json("show", "hello")
    assert (hello["release"], hello["unknown"]) == (None, ""), "it was never released, so nobody is asked"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("aml-images bu", {"build", "builds"}),
        ("aml-images status 2026", {EARLIER, LATER}),
        ("aml-images show apps/", {"apps/hello", "apps/other"}),
        ("aml-images show oth", {"other"}),
        ("aml-images build apps/hello tools/", {"tools/shell"}),
        ("aml-images builds --rel", {"--released"}),
        ("aml-images builds --image t", {"tools/shell"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_images_and_builds(
    repository: ImageRepository, shell: str, words: str, found: set[str]
) -> None:
    assert set(completed(repository, words, shell)) == found


def test_shells_complete_the_newest_build_first(repository: ImageRepository) -> None:
    number = f"{LATER[:9]}00000000"
    record = build_record(number, created=NOW + timedelta(hours=1), status="succeeded")
    Artifacts(str(repository.artifacts)).build(number).write_build(record)
    assert completed(repository, "aml-images status 2026") == [number, LATER, EARLIER]


def test_shells_complete_what_a_command_can_use(repository: ImageRepository) -> None:
    assert completed(repository, "aml-images release 2026") == [EARLIER], "the other one was canceled"
    rewrite(repository, "canceled", images=("apps/other",))
    assert completed(repository, f"aml-images logs {LATER} a") == ["apps/other"]
    assert completed(repository, f"aml-images logs {LATER} shell") == [], "the build has no such image"
    assert completed(repository, "aml-images withdraw other v") == []
    released(repository, "apps/other")
    write_withdrawal(Artifacts(str(repository.artifacts)), "apps/other", f"sha256:{'2' * 64}", tag="v2")
    for words in ("withdraw other 2", "withdraw apps/other 2", "rollback other --to 2"):
        assert completed(repository, f"aml-images {words}") == ["20261123.v1"]
    assert completed(repository, "aml-images rollback other --to v") == [], "it was withdrawn"


def completed(repository: ImageRepository, words: str, shell: str = "bash") -> list[str]:
    """What a shell offers, in its order."""
    environment = {"COMP_WORDS": words, "_AML_IMAGES_COMPLETE": f"{shell}_complete"}
    environment["COMP_CWORD"] = words.split()[-1] if shell == "fish" else str(len(words.split()) - 1)
    done = repository.run_in_a_copy(**environment)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    return (
        lines[1::3] if shell == "zsh" else [line.partition(",")[2].partition("\t")[0] for line in filter(None, lines)]
    )


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("show", "apps/o"), {"apps/other"}),
        (("status", "2026"), {EARLIER, LATER}),
        (("relea",), {"release", "releases"}),
    ],
)
def test_bash_completes_after_the_line_of_the_documentation(
    repository: ImageRepository, words: tuple[str, ...], found: set[str]
) -> None:
    line = 'eval "$(_AML_IMAGES_COMPLETE=bash_source aml-images)"'
    assert line in (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    ask = (
        f"COMP_WORDS=(aml-images {' '.join(words)}); COMP_CWORD={len(words)}\n"
        "[[ $(complete -p aml-images) =~ -F\\ ([^ ]+) ]] && ${BASH_REMATCH[1]} aml-images\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AML_IMAGES_")}
    done = subprocess.run(
        ["bash", "-c", f"{line}\n{ask}"],
        cwd=repository.root,
        env=clean | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == found


@pytest.mark.parametrize("columns", ["40", "60", "99"])
def test_a_narrow_console_breaks_no_number_and_no_digest(repository: ImageRepository, columns: str) -> None:
    for command, words in (
        ("builds", (EARLIER, LATER, "20261123.v1", "apps/other", "tools/shell")),
        (f"status {EARLIER}", ("apps/other", DIGEST[:19], "2.5 MB")),
    ):
        lines = repository.run(*command.split(), COLUMNS=columns).stdout.splitlines()
        for word in words:
            assert any(word in line for line in lines), (word, lines)
        assert all(len(line) <= int(columns) for line in lines if "artifacts" not in line.lower())
    lines = repository.run("builds", COLUMNS=columns).stdout.splitlines()
    assert lines[0] == LATER
    assert [line.split() for line in lines[1:3]] == [["status", "canceled"], ["created", "2026-11-23", "12:00:00"]]


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_a_pipe_has_no_escape_sequences_and_a_line_for_each_row(
    repository: ImageRepository, environment: dict[str, str]
) -> None:
    shown = repository.run("builds", COLUMNS="", **environment).stdout
    assert "\x1b" not in shown
    assert [line.split()[0] for line in shown.splitlines() if line.split()[0] in (EARLIER, LATER)] == [LATER, EARLIER]


def test_an_image_that_was_only_tested_again_is_no_unchanged_one(tmp_path: Path) -> None:
    folder = Artifacts(str(tmp_path)).build(LATER)
    tested_in = {"a/built": (LATER, LATER), "a/tested": (EARLIER, LATER), "a/reused": (EARLIER, EARLIER)}
    for image, (built, tested) in tested_in.items():
        folder.write_staged(staged_image(image, LATER, built_in=built))
        scenarios = (passed_scenario("runs", tested), passed_scenario("trains", built))
        folder.write_tested(TestedImage(image=image, digest=DIGEST, scenarios=scenarios))
    folder.write_staged(staged_image("a/failed", LATER, built_in=EARLIER))
    record = build_record(LATER, images=(*tested_in, "a/failed", "a/never"))
    assert list(unchanged_images(folder, record)) == ["a/reused"]
