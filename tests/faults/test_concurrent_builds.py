"""Builds that share an image: what happens to one may not take anything from the other."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.defs.request import BUILD_TAG
from tests.faults.evidence import LABEL
from tests.faults.scene import EVIDENCE, FAULTY, LONGEST_BUILD_SECONDS

if TYPE_CHECKING:
    from tests.faults.scene import Build, Scene

pytestmark = [pytest.mark.engine, pytest.mark.faults]


def digest_in(scene: Scene, build: str) -> str | None:
    family, name = scene.repository.image(FAULTY).split("/")
    return scene.eyes.registry.digest(Reference(scene.eyes.registry.host, family, f"{name}--{build}"))


def test_two_builds_of_one_image_at_once(command_line: Scene) -> None:
    scene = command_line
    scene.fix()
    scene.scenario("while [ ! -e /go ]; do sleep 0.1; done")
    first = scene.start("command line")
    scene.wait_for_job(first)
    second = scene.start("command line")
    scene.wait_for_job(second)
    assert digest_in(scene, first.number)
    assert first.process is not None
    first.process.send_signal(signal.SIGINT)
    scene.wait_for_end(first)
    with scene.world.engine.client() as client:
        (job,) = client.containers.list(ignore_removed=True, filters={"label": f"{LABEL}={second.number}"})
        job.exec_run(["touch", "/go"])
    scene.wait_for_end(second)
    for build in (first, second):
        build.observer.stop()
    assert scene.eyes.look(first.number).clean
    assert scene.eyes.status(second.number) == "succeeded", second.output
    assert digest_in(scene, second.number)
    assert scene.damaged() == []


def test_evidence_that_two_builds_have_attached_to_one_image_goes_with_the_last_of_them(command_line: Scene) -> None:
    scene = command_line
    scene.fix()
    scene.scenario("while [ ! -e /go ]; do sleep 0.1; done")
    builds = [scene.start("command line"), scene.start("command line")]
    for build in builds:
        scene.wait_for_job(build)
    with scene.world.engine.client() as client:
        for job in client.containers.list(ignore_removed=True, filters={"label": LABEL}):
            job.exec_run(["touch", "/go"])
    for build in builds:
        scene.wait_for_end(build)
        build.observer.stop()
        assert scene.eyes.status(build.number) == "succeeded", build.output
        scene.keep(build)
    first, last = builds
    digest = digest_in(scene, last.number)
    assert digest_in(scene, first.number) == digest
    family = scene.repository.families["apps"]
    both = scene.world.registry.stored(family).attached(str(digest))
    assert len(both) > EVIDENCE, "both have attached theirs"

    clean_up(scene, first)

    assert scene.damaged() == []
    assert scene.world.registry.stored(family).attached(str(digest)) == both
    verified = scene.repository.run("verify", f"{scene.world.front.host}/{family}@{digest}")
    assert verified.returncode == 0, verified.stdout + verified.stderr

    clean_up(scene, last)

    assert digest_in(scene, last.number) is None
    assert scene.eyes.unreachable() == ()
    assert scene.damaged() == []


def clean_up(scene: Scene, build: Build) -> None:
    done = scene.repository.run("cleanup", build.number, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    scene.forget(build)


def test_a_canceled_build_leaves_the_image_that_it_has_reused(command_line: Scene) -> None:
    scene = command_line
    scene.fix()
    owner = scene.succeed("command line")
    kept = digest_in(scene, owner.number)
    # The test is another, the image is the same: it is reused, and tested again.
    scene.new_test("sleep 300")
    canceled = scene.start("command line")
    scene.wait_for_job(canceled)
    assert digest_in(scene, canceled.number) == kept
    assert canceled.process is not None
    canceled.process.send_signal(signal.SIGINT)
    scene.wait_for_end(canceled)
    canceled.observer.stop()
    assert scene.eyes.look(canceled.number).clean
    assert digest_in(scene, owner.number) == kept
    scene.fix()
    assert scene.damaged() == []


def test_an_image_that_goes_while_it_is_reused_stays(command_line: Scene) -> None:
    """A build finds an image that has passed; before it has tagged it, the only build that has it is cleaned up."""
    scene = command_line
    scene.fix()
    owner = scene.succeed("command line")
    front = scene.world.front
    # Only the second build waits: the cleanup stores something under the first one's tag, too.
    front.close_gate(f"/manifests/{FAULTY.partition('/')[2]}--(?!{re.escape(owner.number)})")
    second = scene.start("command line")
    scene.until(front.waiting.is_set, "nothing is tagged")
    clean_up(scene, owner)
    front.gate.set()
    scene.wait_for_end(second)
    second.observer.stop()
    assert scene.eyes.status(second.number) == "succeeded", second.output
    assert digest_in(scene, second.number)
    assert scene.damaged() == []


def test_an_image_that_goes_between_plan_and_run_is_built(command_line: Scene) -> None:
    """The only build that has it is cleaned up when another has planned to reuse it, and has no run yet."""
    scene = command_line
    scene.fix()
    owner = scene.succeed("command line")
    gone = digest_in(scene, owner.number)
    known = {run.run_id for run in scene.instance.get_runs()}
    process, _ = scene.plan_and_stop()
    assert {run.run_id for run in scene.instance.get_runs()} == known
    clean_up(scene, owner)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=LONGEST_BUILD_SECONDS)
    (run,) = [run for run in scene.instance.get_runs() if run.run_id not in known]
    number = run.tags[BUILD_TAG]
    assert scene.eyes.status(number) == "succeeded", out + err
    assert digest_in(scene, number) not in (None, gone)
    assert scene.damaged() == []
