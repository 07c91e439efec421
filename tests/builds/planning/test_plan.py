"""What a build would do, and with which parents: real registries, a real git repository, no engine at work."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.planning.plan import plan, with_needed_parents
from aml_images_dagster.builds.planning.preflight import check_plan
from aml_images_dagster.builds.records import (
    BaseImage,
    PassedImage,
    Plan,
    PlannedImage,
    StagedImage,
    TestedImage,
)
from aml_images_dagster.builds.steps.parents import finder_elsewhere, released
from aml_images_dagster.builds.steps.recipe import write_recipe
from aml_images_dagster.builds.steps.reuse import reusable
from aml_images_dagster.builds.steps.scenarios import scenario_key, scenario_runs
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.copy import copy_image
from tests.records import build_record, passed_scenario, staged_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository

    NewSession = Callable[..., BuildSession]
    Pass = Callable[[BuildSession, str], StagedImage]

pytestmark = pytest.mark.engine


@pytest.fixture
def let_pass(image_repository: ImageRepository, push_new_image: Callable[[str, str], Reference]) -> Pass:
    """Writes down that an image passed in a build as its folder stands, with something in the staging registry."""

    def let(session: BuildSession, short: str) -> StagedImage:
        name = image_repository.image(short)
        image, backends = session.image(name), session.backends
        recipe = write_recipe(
            image,
            session.source,
            backends,
            finder_elsewhere(session.source, backends, session.settings),
        )
        pushed = push_new_image(image.family, f"{image.name}--{session.number}")
        staged = staged_image(
            name,
            session.number,
            reference=str(session.staging_reference(image)),
            digest=pushed.digest,
            content_key=recipe.key,
            bases=tuple(BaseImage(reference=base.reference, digest=base.digest) for base in recipe.bases),
            dockerfile=recipe.dockerfile,
        )
        scenarios = tuple(
            passed_scenario(
                run.scenario.name, session.number, key=scenario_key(session, staged.digest, image, run), job="job"
            )
            for run in scenario_runs(image)
        )
        tested = TestedImage(image=name, digest=staged.digest, scenarios=scenarios)
        session.begin()
        session.folder.write_staged(staged)
        backends.artifacts.write_passed(PassedImage(staged=staged, tested=tested))
        return staged

    return let


def by_image(planned: Plan, image_repository: ImageRepository) -> dict[str, PlannedImage]:
    shorts = {image_repository.image(short): short for short in ("tools/shell", "apps/hello", "apps/other")}
    return {shorts[step.image]: step for step in planned.images}


def test_the_first_build_makes_everything_parents_first(
    new_session: NewSession, image_repository: ImageRepository, busybox: Reference
) -> None:
    planned = plan(new_session("apps/hello", "apps/other", "tools/shell"))
    order = [step.image for step in planned.images]
    shell, hello = image_repository.image("tools/shell"), image_repository.image("apps/hello")
    assert order.index(shell) < order.index(hello)
    steps = by_image(planned, image_repository)
    assert {step.action for step in planned.images} == {"build"}
    assert steps["tools/shell"].because == ("no build of it has passed yet",)
    assert steps["tools/shell"].pins == {"busybox": busybox.digest}
    assert steps["apps/other"].pins == {"busybox:latest": busybox.digest}
    assert steps["apps/hello"].because == ("no build of it has passed yet", f"its base {shell} is rebuilt")
    assert steps["apps/hello"].pins == {"registry.example/shell:latest": ""}
    assert steps["apps/hello"].tests == {"runs": "run"}


def test_nothing_is_changed_by_a_plan(new_session: NewSession, image_repository: ImageRepository) -> None:
    before = sorted(image_repository.root.rglob("*"))
    plan(new_session("apps/hello", "apps/other", "tools/shell"))
    assert sorted(image_repository.root.rglob("*")) == before


def test_what_passed_is_reused_until_something_that_decides_its_bytes_changes(
    new_session: NewSession, image_repository: ImageRepository, let_pass: Pass
) -> None:
    everything = ("apps/hello", "apps/other", "tools/shell")
    shell = let_pass(new_session(*everything), "tools/shell")
    hello = let_pass(new_session(*everything), "apps/hello")
    let_pass(new_session(*everything), "apps/other")
    steps = by_image(plan(new_session(*everything)), image_repository)
    assert {short: step.action for short, step in steps.items()} == dict.fromkeys(everything, "reuse")
    assert steps["tools/shell"].because == (f"passed in build {shell.built_in}",)
    assert steps["apps/hello"].pins == {"registry.example/shell:latest": shell.digest}
    assert steps["apps/hello"].tests == {"runs": "passed"}
    assert hello.bases[0].digest == shell.digest

    steps = by_image(plan(new_session(*everything, force=True)), image_repository)
    assert {step.action for step in steps.values()} == {"build"}
    assert steps["tools/shell"].because == ("forced",)

    greeting = image_repository.folder("tools/shell") / "greeting"
    greeting.write_text("good day\n")
    steps = by_image(plan(new_session(*everything)), image_repository)
    assert {short: step.action for short, step in steps.items()} == {
        "tools/shell": "build",
        "apps/hello": "build",
        "apps/other": "reuse",
    }
    assert steps["tools/shell"].because == ("context: greeting changed",)

    greeting.write_text("hello\n")
    image_repository.write(image_repository.root / "checks" / "runs.py", "echo another check\n")
    steps = by_image(plan(new_session(*everything)), image_repository)
    assert {step.action for step in steps.values()} == {"reuse"}
    assert {scenario.status for step in steps.values() for scenario in step.scenarios} == {"run"}


def test_what_staging_has_lost_is_built_again(
    new_session: NewSession, image_repository: ImageRepository, let_pass: Pass, backends: Backends
) -> None:
    staged = let_pass(new_session("apps/other"), "apps/other")
    backends.staging.delete(Reference.parse(staged.reference))
    (step,) = plan(new_session("apps/other")).images
    assert step.action == "build"
    assert step.because == ("it passed before, but staging no longer holds it",)


def test_another_image_with_the_same_folder_is_not_taken_for_it(
    new_session: NewSession, image_repository: ImageRepository, let_pass: Pass
) -> None:
    """The labels say which image it is, so even the same folder makes another image."""
    let_pass(new_session("apps/other"), "apps/other")
    copy = image_repository.folder("tools/shell").with_name("copy")
    image_repository.folder("apps/other").rename(copy)
    (step,) = plan(new_session("tools/copy")).images
    assert step.action == "build"


def test_where_a_parent_is_found(
    new_session: NewSession,
    image_repository: ImageRepository,
    let_pass: Pass,
    backends: Backends,
    settings: Settings,
    busybox: Reference,
) -> None:
    session = new_session("apps/hello")
    shell = session.image(image_repository.image("tools/shell"))
    source = session.source
    chosen = {image_repository.image("apps/hello"): ("named",)}

    def find() -> Reference | None:
        return finder_elsewhere(source, backends, settings)(shell.id)

    assert find() is None
    assert with_needed_parents(chosen, source, backends, settings) == chosen | {
        shell.id: (
            f"{image_repository.image('apps/hello')} is built FROM it, and it was neither released nor has it passed",
        )
    }
    (refused,) = plan(session).images
    assert refused.action == "refuse"
    assert "Dockerfile:2: " in refused.because[0]
    assert f"{shell.id} is neither part of the build nor released" in refused.because[0]

    passed = let_pass(session, "tools/shell")
    assert find() == Reference(backends.staging.host, shell.family, digest=passed.digest)
    assert with_needed_parents(chosen, source, backends, settings) == chosen
    assert plan(session).images[0].pins == {"registry.example/shell:latest": passed.digest}

    repository = settings.production_names.format(name=shell.name)
    copy_image(backends.staging, backends.production, busybox, repository, ["latest"])  # type: ignore[arg-type]
    assert released(shell, backends, settings) == Reference(backends.production.host, repository, digest=busybox.digest)
    assert find() == released(shell, backends, settings), "what was released comes before what only passed"


def test_a_content_key_is_of_one_image_only(
    new_session: NewSession, image_repository: ImageRepository, let_pass: Pass, backends: Backends
) -> None:
    session = new_session("apps/other", "tools/shell")
    passed = let_pass(session, "apps/other")
    other, shell = (session.image(image_repository.image(short)) for short in ("apps/other", "tools/shell"))
    assert reusable(passed.content_key, other, backends)
    assert not reusable(passed.content_key, shell, backends)


def test_grandparents_that_are_nowhere_are_added_too(
    new_session: NewSession, image_repository: ImageRepository, backends: Backends, settings: Settings
) -> None:
    image_repository.write_image("apps/top", "FROM registry.example/hello\n")
    session = new_session("apps/top")
    selection = with_needed_parents(
        {image_repository.image("apps/top"): ("named",)}, session.source, backends, settings
    )
    assert set(selection) == {image_repository.image(image) for image in ("apps/top", "apps/hello", "tools/shell")}


def test_a_cycle_is_told(
    new_session: NewSession, image_repository: ImageRepository, backends: Backends, settings: Settings
) -> None:
    image_repository.write_image("tools/shell", "FROM registry.example/hello\n")
    session = new_session("apps/hello", "tools/shell")
    with pytest.raises(BadInput, match="FROM"):
        plan(session)
    with pytest.raises(BadInput, match="FROM"):
        with_needed_parents({image_repository.image("apps/hello"): ()}, session.source, backends, settings)


def test_a_base_that_nobody_knows_is_refused_beside_what_can_be_built(
    new_session: NewSession, image_repository: ImageRepository
) -> None:
    image_repository.write_image("apps/other", "FROM 127.0.0.1:9/none/such:1\n")
    steps = by_image(plan(new_session("apps/other", "tools/shell")), image_repository)
    assert {short: step.action for short, step in steps.items()} == {"apps/other": "refuse", "tools/shell": "build"}
    assert "127.0.0.1:9/none/such:1" in steps["apps/other"].because[0]
    assert "can't be resolved" in steps["apps/other"].because[0]


def test_an_image_from_one_that_cannot_be_built_cannot_be_built(
    new_session: NewSession, image_repository: ImageRepository
) -> None:
    image_repository.write_image("tools/shell", "FROM 127.0.0.1:9/none/such:1\n")
    planned = plan(new_session("tools/shell", "apps/hello", "apps/other"))
    steps = by_image(planned, image_repository)
    assert {short: step.action for short, step in steps.items()} == {
        "tools/shell": "refuse",
        "apps/hello": "refuse",
        "apps/other": "build",
    }
    because = f"Dockerfile: its base {image_repository.image('tools/shell')} cannot be built"
    assert steps["apps/hello"].because[0].endswith(because)
    with pytest.raises(BadInput, match=because):
        check_plan(planned)


def test_a_base_that_is_written_unlike_an_image_of_the_repository_names_it(
    new_session: NewSession, image_repository: ImageRepository
) -> None:
    image_repository.write_image("apps/other", "FROM registry.example/shel\n")
    (misspelt,) = plan(new_session("apps/other")).images
    shell = image_repository.image("tools/shell")
    assert f"as registry.example/shel; did you mean {shell}?; the base can't be resolved" in misspelt.because[0]
    image_repository.write_image("apps/other", f"FROM {shell}\n")
    (by_its_id,) = plan(new_session("apps/other")).images
    assert f"FROM names {shell} of this repository as registry.example/shell" in by_its_id.because[0]


def test_the_plan_of_a_commit_is_that_of_its_own_files(
    new_session: NewSession, image_repository: ImageRepository, let_pass: Pass
) -> None:
    commit = image_repository.git("rev-parse", "HEAD")
    let_pass(new_session("tools/shell"), "tools/shell")
    (image_repository.folder("tools/shell") / "greeting").write_text("not committed\n")
    (now,), (then,) = (plan(new_session("tools/shell", commit=commit)).images for commit in ("", commit))
    assert (now.action, then.action) == ("build", "reuse")


def test_the_command(image_repository: ImageRepository) -> None:
    printed: Any = image_repository.json("build", "--all", "--dry-run", "--release-num", "3")
    assert set(printed) == {"commit", "release_tag", "images"}
    assert printed["commit"] == image_repository.git("rev-parse", "HEAD")
    assert printed["release_tag"].endswith(".v3")
    for step in printed["images"]:
        assert set(step) == {"image", "action", "because", "reasons", "bases", "tests"}
    assert json.dumps(printed)


def test_the_second_build_of_a_day_takes_the_next_release_number(image_repository: ImageRepository) -> None:
    artifacts = Artifacts(str(image_repository.artifacts))
    today, other = f"{datetime.now(UTC):%Y%m%d}", image_repository.image("apps/other")
    for digit, status in enumerate(("succeeded", "failed"), 1):
        folder = artifacts.build(f"{today}.0000000{digit}")
        folder.write_build(build_record(folder.build, status=status, release_tag=f"{today}.v{digit}", images=(other,)))
    arguments = ("build", other, "--dry-run")
    assert image_repository.json(*arguments)["release_tag"] == f"{today}.v2"
    assert image_repository.json(*arguments, "--release-num", "1")["release_tag"] == f"{today}.v1"
    assert image_repository.json(*arguments, "--release-tag", "hotfix")["release_tag"] == "hotfix"
    damaged = artifacts.build(f"{today}.00000003").root / "build.json"
    image_repository.write(image_repository.artifacts / f"{today}.00000003" / "build.json", "{")
    done = image_repository.run_in_a_copy(*arguments)
    assert done.returncode == 0, done.stderr
    assert "the release number may be taken" in done.stderr
    assert str(damaged) in done.stderr
    assert f"{today}.v2" in done.stdout
