"""Builds that follow a plan, and what they do when it does not hold any more."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds import artifacts
from aml_images_dagster.builds.housekeeping.cleanup import cleanup
from aml_images_dagster.builds.steps.staging import stage, stage_once
from aml_images_dagster.builds.steps.unchanged import record_unchanged
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, BuildFailed, BuildStopped
from aml_images_dagster.release.release_json import release_image
from tests.builds.in_memory import MemoryFactory, MemoryRegistry, staged_digests, write, write_image
from tests.builds.test_process import elsewhere

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.builds.records import Plan

BASE = "sha256:" + "b" * 64
ALL = ["apps/leaf", "apps/other", "tools/root"]


@pytest.fixture
def factory(tmp_path: Path) -> MemoryFactory:
    repo = tmp_path / "repo"
    write_image(repo, "tools/root", "FROM base:1\nCOPY data /\n")
    write_image(repo, "apps/leaf", "FROM registry.example/root:latest\nCOPY data /\n")
    write_image(repo, "apps/other", "FROM registry.example/root:latest\nRUN true\n", scenario=None)
    write(repo / "checks" / "check.py", "echo well\n")
    return MemoryFactory(repo, tmp_path / "home", {"base:1": BASE})


def forget_work(factory: MemoryFactory) -> None:
    factory.builder.built.clear()
    factory.runner.ran.clear()


def test_what_is_reused_is_recorded_and_nothing_is_built_or_run(factory: MemoryFactory) -> None:
    first = factory.build(factory.plan())
    forget_work(factory)
    plan = factory.plan()
    assert all(planned.is_unchanged for planned in plan.images)
    second = factory.build(plan)
    assert (factory.builder.built, factory.runner.ran) == ([], {})
    assert staged_digests(second) == staged_digests(first)
    assert second.folder.read_plan() == plan
    for image in ALL:
        staged, tested = second.folder.read_staged(image), second.folder.read_tested(image)
        assert staged is not None
        assert tested is not None
        assert staged.built_in == first.number
        assert staged.because == (f"passed in build {first.number}",)
        assert staged.reasons == ("all",)
        assert factory.staging.digest(Reference.parse(staged.reference)) == staged.digest
        assert [scenario.tested_in for scenario in tested.scenarios] == [first.number] * (image != "apps/other")
        assert (second.folder.root / "sources/images" / image / "Dockerfile").exists()


def test_a_tag_that_the_step_has_just_read_back_is_not_asked_for_again(
    factory: MemoryFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory.build(factory.plan())
    plan = factory.plan()
    asked, ask = [], MemoryRegistry.digest

    def digest(registry: MemoryRegistry, reference: Reference) -> str | None:
        asked.extend([reference.tag] if reference.tag else [])
        return ask(registry, reference)

    monkeypatch.setattr(MemoryRegistry, "digest", digest)
    session = factory.build(plan)
    digests = {image: release_image(session, image).staging.digest for image in ALL}
    assert digests == {planned.image: planned.digest for planned in plan.images}
    assert asked == []
    tags = [session.staging_reference(session.image(image)).tag for image in ALL]
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now + 61)  # it may have moved since
    for image in ALL:
        release_image(session, image)
    assert asked == tags
    monkeypatch.setattr("time.monotonic", lambda: now)
    session.saw_tag(ALL[0], BASE)  # then the image was built after all
    assert release_image(session, ALL[0]).staging.digest == digests[ALL[0]]
    assert asked == [*tags, tags[0]]
    factory.staging.push(session.staging_reference(session.image(ALL[0])), BASE, {})
    with pytest.raises(BuildFailed, match="The tag moved after the test"):
        release_image(session, ALL[0])


def test_a_leaf_that_changed_is_built_on_the_parent_that_is_reused(factory: MemoryFactory) -> None:
    first = factory.build(factory.plan())
    forget_work(factory)
    write(factory.settings.repo / "images/apps/leaf/data", "other data\n")
    second = factory.build(factory.plan())
    assert factory.builder.built == ["apps/leaf"]
    assert list(factory.runner.ran) == [("apps/leaf", "runs")]
    before, after = staged_digests(first), staged_digests(second)
    assert {image for image in ALL if before[image] != after[image]} == {"apps/leaf"}
    leaf = second.folder.read_staged("apps/leaf")
    assert leaf is not None
    assert leaf.because == ("context: data changed",)


def test_a_base_that_moves_after_the_plan_does_not_move_in_the_build(factory: MemoryFactory) -> None:
    plan = factory.plan()
    factory.backends.resolver.digests["base:1"] = f"sha256:{'c' * 64}"  # type: ignore[attr-defined]
    root = factory.build(plan).folder.read_staged("tools/root")
    assert root is not None
    assert [base.digest for base in root.bases] == [BASE]


def test_a_parent_of_another_build_stays_what_was_planned_unless_it_went(factory: MemoryFactory) -> None:
    """The build is of the leaf alone; its parent has passed elsewhere."""
    before = factory.build(factory.plan()).folder.read_staged("tools/root")
    assert before is not None
    plan = plan_of_leaf_alone(factory)
    write(factory.settings.repo / "images/tools/root/data", "new\n")
    leaf = stage(factory.session(plan), "apps/leaf", print)
    assert [base.digest for base in leaf.bases] == [before.digest]
    factory.staging.delete(Reference("", "tools", digest=before.digest))
    with pytest.raises(BadInput, match="tools/root is neither part of the build nor released"):
        stage(factory.session(plan), "apps/leaf", print)


def plan_of_leaf_alone(factory: MemoryFactory, pull_request: str = "") -> Plan:
    """Of a build to come that finds the parent of what it builds in staging."""
    write(factory.settings.repo / "images/apps/leaf/data", "new\n")
    return factory.plan("apps/leaf", pull_request=pull_request)


def test_a_parent_that_a_plan_has_pinned_stays_when_the_build_that_made_it_is_cleaned_up(
    factory: MemoryFactory,
) -> None:
    made = factory.build(factory.plan())
    session = factory.session(plan_of_leaf_alone(factory))
    digest = stage(session, "apps/leaf", print).bases[0].digest
    tag = session.staging_reference(session.image("tools/root"))
    kept = session.folder.read_parent("tools/root")
    assert kept is not None
    assert (kept.reference, kept.digest) == (str(tag), digest)
    assert cleanup(made.number, factory.backends, "expired").clean
    assert factory.staging.digest(tag) == digest
    assert cleanup(session.number, factory.backends, "expired").clean
    assert factory.staging.served == {}


def test_a_pinned_parent_that_a_cleanup_has_forgotten_is_not_used_though_it_is_still_there(
    factory: MemoryFactory,
) -> None:
    root = factory.build(factory.plan()).folder.read_staged("tools/root")
    assert root is not None
    plan = plan_of_leaf_alone(factory)
    factory.backends.artifacts.forget_passed(root.content_key.digest, root.digest)
    with pytest.raises(BadInput, match="tools/root is neither part of the build nor released"):
        stage(factory.session(plan), "apps/leaf", print)


def test_no_other_build_reuses_what_a_pull_request_made_not_even_by_a_plan_that_was_made_for_one(
    factory: MemoryFactory,
) -> None:
    theirs = factory.build(factory.plan(pull_request="7"), pull_request="7")
    plan = factory.plan(pull_request="8")
    assert {planned.built_in for planned in plan.images if planned.is_unchanged} == {theirs.number}
    assert {planned.action for planned in factory.plan().images} == {"build"}
    forget_work(factory)
    again = factory.build(plan, pull_request="8")
    assert (factory.builder.built, staged_digests(again)) == ([], staged_digests(theirs))
    ours = factory.build(plan)
    assert sorted(factory.builder.built) == ALL
    assert len(factory.runner.ran) == 2
    assert not set(staged_digests(ours).values()) & set(staged_digests(theirs).values())


def test_no_other_build_uses_a_parent_that_a_pull_request_made_not_even_by_a_plan_that_was_made_for_one(
    factory: MemoryFactory,
) -> None:
    root = factory.build(factory.plan(pull_request="7"), pull_request="7").folder.read_staged("tools/root")
    assert root is not None
    plan = plan_of_leaf_alone(factory, pull_request="8")
    leaf = stage(factory.session(plan, pull_request="8"), "apps/leaf", print)
    assert [base.digest for base in leaf.bases] == [root.digest]
    with pytest.raises(BadInput, match="tools/root is neither part of the build nor released"):
        stage(factory.session(plan), "apps/leaf", print)


def test_an_image_whose_record_goes_while_it_is_tagged_is_made(
    factory: MemoryFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleanup has looked for tags before ours was there, so it deletes the image: its record says so in time."""
    factory.build(factory.plan())
    plan = factory.plan()
    tag = MemoryRegistry.tag

    def tag_late(registry: MemoryRegistry, reference: Reference, name: str) -> None:
        tag(registry, reference, name)
        for planned in plan.images:
            if planned.digest == reference.digest:
                factory.backends.artifacts.forget_passed(planned.content_key, planned.digest)

    monkeypatch.setattr(MemoryRegistry, "tag", tag_late)
    forget_work(factory)
    factory.build(plan)
    assert sorted(factory.builder.built) == ALL


def test_images_that_went_after_the_plan_are_made_and_so_is_what_is_built_on_them(factory: MemoryFactory) -> None:
    first = factory.build(factory.plan())
    plan = factory.plan()
    assert cleanup(first.number, factory.backends, "expired").clean
    assert factory.staging.served == {}
    factory.backends.resolver.digests["base:1"] = f"sha256:{'c' * 64}"  # type: ignore[attr-defined]
    forget_work(factory)
    session = factory.session(plan)
    made = {one.staged.image: one for one in record_unchanged(session, print)}
    assert sorted(made) == ALL
    assert factory.builder.built[0] == "tools/root"
    for image in ("apps/leaf", "apps/other"):
        assert [base.digest for base in made[image].staged.bases] == [made["tools/root"].staged.digest]
        assert made[image].staged.built_in == session.number
    assert made["tools/root"].staged.because == ("it passed before, but staging no longer holds it",)
    assert sorted(factory.runner.ran) == [("apps/leaf", "runs"), ("tools/root", "runs")]


def test_what_is_built_on_an_image_that_went_is_not_reused(factory: MemoryFactory) -> None:
    """Staging has lost the parent alone, and a rebuild of it is another image."""
    factory.build(factory.plan())
    plan = factory.plan()
    root = plan.by_name["tools/root"]
    factory.staging.delete(Reference("", "tools", digest=root.digest))
    write(factory.settings.repo / "images/tools/root/data", "changed after the plan\n")
    forget_work(factory)
    session = factory.build(plan)
    assert sorted(factory.builder.built) == ALL
    now = session.folder.read_staged("tools/root")
    leaf = session.folder.read_staged("apps/leaf")
    assert now is not None
    assert leaf is not None
    assert now.digest != root.digest
    assert [base.digest for base in leaf.bases] == [now.digest]


def test_steps_that_need_the_same_image_that_went_make_it_once(factory: MemoryFactory) -> None:
    factory.build(factory.plan())
    for leaf in ("leaf", "other"):
        write(factory.settings.repo / f"images/apps/{leaf}/Dockerfile", "FROM registry.example/root:latest\nRUN 1\n")
    plan = factory.plan()
    factory.staging.delete(Reference("", "tools", digest=plan.by_name["tools/root"].digest))
    forget_work(factory)
    session = factory.session(plan)
    steps = [threading.Thread(target=stage, args=(session, f"apps/{leaf}", print)) for leaf in ("leaf", "other")]
    for step in steps:
        step.start()
    for step in steps:
        step.join(60)
    assert sorted(factory.builder.built) == ALL
    digests = staged_digests(session)
    for leaf in ("apps/leaf", "apps/other"):
        staged = session.folder.read_staged(leaf)
        assert staged is not None
        assert [base.digest for base in staged.bases] == [digests["tools/root"]]


def test_nobody_waits_for_a_step_whose_build_has_failed(factory: MemoryFactory) -> None:
    factory.build(factory.plan())
    session = factory.session(factory.plan())
    session.begin()
    session.folder.claim("tools/root")
    session.folder.finish("failed")
    with pytest.raises(BuildStopped, match="its status is failed"):
        stage_once(session, "tools/root", print)


def test_nobody_waits_for_a_step_that_was_killed(factory: MemoryFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    factory.build(factory.plan())
    session = factory.session(factory.plan())
    session.begin()
    monkeypatch.setattr(artifacts, "this_process", elsewhere)
    session.folder.claim("tools/root")
    with pytest.raises(BuildFailed, match="was killed"):
        stage_once(session, "tools/root", print)


def test_results_of_tests_that_are_remembered_no_more_are_made_again(factory: MemoryFactory) -> None:
    """Another build of the same images with another test has passed meanwhile."""
    factory.build(factory.plan())
    plan = factory.plan()
    tests = factory.settings.repo / "images/apps/leaf/tests.json"
    content = tests.read_text()
    tests.unlink()
    factory.build(factory.plan())
    tests.write_text(content)
    forget_work(factory)
    session = factory.build(plan)
    assert (factory.builder.built, list(factory.runner.ran)) == ([], [("apps/leaf", "runs")])
    tested = session.folder.read_tested("apps/leaf")
    assert tested is not None
    assert [scenario.tested_in for scenario in tested.scenarios] == [session.number]
