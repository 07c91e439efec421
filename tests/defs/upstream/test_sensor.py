"""The sensor of external bases, against a real registry that wants a token."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.storage.tags import RUN_KEY_TAG

from aml_images_dagster.builds.records import BaseImage, PassedImage, TestedImage
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs.keys import BUILD_JOB, REBUILT, base_key
from aml_images_dagster.defs.main_branch import MainBranch
from aml_images_dagster.defs.request import RESOURCE, build_keys
from aml_images_dagster.defs.run import FACTORY, Factory
from aml_images_dagster.defs.upstream.bases import base_assets
from aml_images_dagster.defs.upstream.sensor import upstream_sensor
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
from aml_images_dagster.upstream import UpstreamState
from tests.emulators.token_registry import TokenRegistry
from tests.records import staged_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine

ONE, TWO = "upstream.example/one:1", "upstream.example/two:1"


class Scene:
    """A repository whose images are built on two bases, and the sensor that looks at them tick by tick."""

    def __init__(self, repository: ImageRepository, factory: Factory, instance: dg.DagsterInstance) -> None:
        self.repository = repository
        self.factory = factory
        self.instance = instance
        self.sensor = upstream_sensor(factory, MainBranch(factory))
        self.cursor: str | None = None

    def tick(self) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        return result

    def end_run(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
        assert request.run_key
        self.instance.add_run(dg.DagsterRun(BUILD_JOB, status=status, tags={RUN_KEY_TAG: request.run_key}))

    def wait(self, hours: float) -> None:
        """Let time pass, by moving what the sensor remembers into the past."""
        document = json.loads(self.cursor or "{}")
        for base in document["bases"].values():
            for moment in ("changed", "failed"):
                if base[moment]:
                    base[moment] = (datetime.fromisoformat(base[moment]) - timedelta(hours=hours)).isoformat()
        self.cursor = json.dumps(document)

    def images(self, *images: str) -> set[dg.AssetKey]:
        return set(build_keys(self.repository.image(image) for image in images))

    def asked(self, request: dg.RunRequest) -> set[dg.AssetKey]:
        return set(request.asset_selection or ())

    def plan(self, request: dg.RunRequest) -> Plan:
        plan = self.factory.backends.artifacts.read_plan(request.run_config["resources"][RESOURCE]["config"]["plan"])
        assert plan is not None
        return plan

    def state(self, base: str) -> Any:
        return UpstreamState.model_validate_json(self.cursor or "").bases[base]

    def check(self, base: str) -> dg.AssetCheckEvaluation:
        (record,) = self.instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(base_key(base), REBUILT), limit=1
        )
        event = record.event
        assert event is not None
        assert event.dagster_event is not None
        return event.dagster_event.asset_check_evaluation_data


@pytest.fixture
def front(staging: OciRegistry, repository: str) -> Iterator[TokenRegistry]:
    """A public registry: it gives anybody a token that asks for one."""
    with TokenRegistry(staging.host, {}, public=(repository,)) as front:
        yield front


@pytest.fixture
def push(repository: str, push_new_image: Callable[[str, str], Reference]) -> Callable[[str], Reference]:
    return lambda name: push_new_image(f"{repository}/{name}", "1")


@pytest.fixture
def scene(
    image_repository: ImageRepository,
    front: TokenRegistry,
    repository: str,
    push: Callable[[str], Reference],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    """tools/shell on the base one, apps/hello FROM it; apps/other on the base two; another that is past its end."""
    image_repository.write_image("tools/shell", f"FROM {ONE}\n")
    image_repository.write_image("apps/other", f"FROM {TWO}\n")
    image_repository.write_image("apps/old", f"FROM {ONE}\n")
    image_repository.write(image_repository.folder("apps/old") / "image.json", '{"eol": "2020-01-01"}')
    image_repository.commit("bases")
    push("one"), push("two")
    monkeypatch.setenv("AML_IMAGES_BASE_MIRRORS", f"upstream.example={front.host}/{repository}")
    settings = load_settings(repo=image_repository.root, automation="on")
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scene(image_repository, Factory(settings, load_source(settings), backends_for(settings)), instance)


def test_an_unchanged_base_starts_nothing(scene: Scene, front: TokenRegistry) -> None:
    first = scene.tick()
    assert {event.asset_key for event in first.asset_events if isinstance(event, dg.AssetObservation)} == {
        base_key(ONE),
        base_key(TWO),
    }
    assert front.given  # it went by a token
    for _ in range(3):
        scene.wait(24)
        result = scene.tick()
        assert result.run_requests == []
        assert result.asset_events == []
        assert str(result.skip_reason.skip_message) == "2 of 2 bases have not changed"  # type: ignore[union-attr]


def test_a_changed_base_builds_what_is_built_on_it_once(scene: Scene, push: Callable[[str], Reference]) -> None:
    scene.tick()
    old, new = scene.state(ONE).served, push("one").digest
    assert scene.tick().run_requests == []  # gathering
    scene.wait(1)
    (request,) = scene.tick().run_requests or ()
    assert scene.asked(request) == scene.images("apps/hello", "tools/shell")
    options = request.run_config["resources"][RESOURCE]["config"]
    assert options["source_commit"] == scene.repository.git("rev-parse", "main")
    assert {planned.image: planned.reasons for planned in scene.plan(request).images} == {
        scene.repository.image("tools/shell"): (f"base {ONE} is now {new[:19]}, it was {old[:19]}",),
        scene.repository.image("apps/hello"): (f"FROM {scene.repository.image('tools/shell')}",),
    }
    assert "force" not in options
    assert request.tags["aml-images/trigger"] == "upstream bases"
    assert request.tags["aml-images/bases"] == ONE
    scene.end_run(request, dg.DagsterRunStatus.SUCCESS)
    for _ in range(3):
        scene.wait(24)
        assert scene.tick().run_requests == []
    assert scene.state(ONE).settled == new


def test_two_bases_that_change_make_one_build(scene: Scene, push: Callable[[str], Reference]) -> None:
    scene.tick()
    push("one")
    scene.tick()
    scene.wait(1)
    push("two")
    (request,) = scene.tick().run_requests or ()
    assert scene.asked(request) == scene.images("apps/hello", "apps/other", "tools/shell")


def fail_three_times(scene: Scene, push: Callable[[str], Reference]) -> list[dg.RunRequest]:
    scene.tick()
    push("two")
    scene.tick()
    requests = []
    for _ in range(3):
        scene.wait(3)
        (request,) = scene.tick().run_requests or ()
        requests.append(request)
        scene.end_run(request, dg.DagsterRunStatus.FAILURE)
        assert scene.tick().run_requests == []  # backs off
    return requests


def test_three_failures_pause_a_base_visibly(scene: Scene, push: Callable[[str], Reference]) -> None:
    requests = fail_three_times(scene, push)
    assert len({request.run_key for request in requests}) == 3
    for _ in range(3):
        scene.wait(1000)
        result = scene.tick()
        assert result.run_requests == []
    paused = f"{TWO}: paused after 3 failed builds; observe its asset to try again"
    assert paused in str(result.skip_reason.skip_message)  # type: ignore[union-attr]
    check = scene.check(TWO)
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.ERROR
    assert scene.check(ONE).passed


def test_observing_a_paused_base_resumes_it(scene: Scene, push: Callable[[str], Reference]) -> None:
    fail_three_times(scene, push)
    observed = dg.materialize(
        base_assets(scene.factory.source.catalog),
        selection=[base_key(TWO)],
        resources={FACTORY: scene.factory},
        instance=scene.instance,
        raise_on_error=False,
    )
    assert observed.success
    (request,) = scene.tick().run_requests or ()
    assert scene.asked(request) == scene.images("apps/other")
    scene.end_run(request, dg.DagsterRunStatus.SUCCESS)
    scene.tick()
    assert scene.check(TWO).passed


def test_a_new_digest_resumes_a_paused_base(scene: Scene, push: Callable[[str], Reference]) -> None:
    fail_three_times(scene, push)
    push("two")
    assert len(scene.tick().run_requests or ()) == 1


def test_only_the_main_branch_counts(scene: Scene, push: Callable[[str], Reference]) -> None:
    scene.repository.git("checkout", "-q", "-b", "work")
    scene.repository.write_image("apps/other", f"FROM {ONE}\n")
    scene.repository.commit("other base")
    scene.tick()
    push("one")
    scene.tick()
    scene.wait(1)
    (request,) = scene.tick().run_requests or ()
    assert scene.asked(request) == scene.images("apps/hello", "tools/shell")


def test_a_change_is_not_missed_while_a_dockerfile_is_broken(scene: Scene, push: Callable[[str], Reference]) -> None:
    scene.tick()
    scene.repository.write_image("apps/other", "FRMO nothing\n")
    scene.repository.commit("broken")
    push("two")
    told = str(scene.tick().skip_reason.skip_message)  # type: ignore[union-attr]
    name = scene.repository.image("apps/other")
    assert told.startswith(f"1 of 1 bases have not changed; {name} is left out: images/{name}/Dockerfile:1: error: ")
    scene.repository.write_image("apps/other", f"FROM {TWO}\n")
    scene.repository.commit("fixed")
    scene.tick()
    scene.wait(1)
    (request,) = scene.tick().run_requests or ()
    assert scene.asked(request) == scene.images("apps/other")


def test_an_image_that_was_broken_while_its_base_was_built_is_built_when_it_is_back(
    scene: Scene, push: Callable[[str], Reference]
) -> None:
    scene.repository.write_image("apps/other", f"FROM {ONE}\n")
    scene.repository.commit("both on one base")
    before = push("one").digest
    name = scene.repository.image("apps/other")
    staged = staged_image(name, "20261101.aaaaaaaa", bases=(BaseImage(reference=ONE, digest=before),))
    tested = TestedImage(image=name, digest=staged.digest, scenarios=())
    scene.factory.backends.artifacts.write_passed(PassedImage(staged=staged, tested=tested))
    scene.tick()
    scene.repository.write_image("apps/other", "FRMO nothing\n")
    scene.repository.commit("broken")
    now = push("one").digest
    scene.tick()
    scene.wait(1)
    (request,) = scene.tick().run_requests or ()
    assert not scene.images("apps/other") <= scene.asked(request)
    scene.end_run(request, dg.DagsterRunStatus.SUCCESS)
    assert scene.tick().run_requests == []
    assert scene.state(ONE).settled == now
    scene.repository.write_image("apps/other", f"FROM {ONE}\n")
    scene.repository.commit("fixed")
    assert scene.tick().run_requests == []
    scene.wait(1)
    (request,) = scene.tick().run_requests or ()
    assert scene.images("apps/other") <= scene.asked(request)
    scene.end_run(request, dg.DagsterRunStatus.SUCCESS)
    scene.tick()
    assert (scene.state(ONE).settled, scene.state(ONE).changed) == (now, None)


def test_a_registry_that_is_away_stops_no_other(scene: Scene, push: Callable[[str], Reference]) -> None:
    scene.repository.write_image("apps/other", "FROM 127.0.0.1:9/away:1\n")
    scene.repository.commit("away")
    scene.tick()
    push("one")
    scene.tick()
    scene.wait(1)
    assert len(scene.tick().run_requests or ()) == 1
    told = str(scene.tick().skip_reason.skip_message)  # type: ignore[union-attr]
    assert "127.0.0.1:9/away:1: the base can't be resolved" in told


def test_a_cursor_of_somebody_else(scene: Scene) -> None:
    scene.cursor = '{"x": 1}'
    with pytest.raises(BadInput, match="not one of this sensor"):
        scene.tick()


def test_observing_a_base_that_is_not_there(scene: Scene, front: TokenRegistry) -> None:
    front.public = ("nobody",)
    observed = dg.materialize(
        base_assets(scene.factory.source.catalog),
        selection=[base_key(TWO)],
        resources={FACTORY: scene.factory},
        instance=scene.instance,
        raise_on_error=False,
    )
    assert not observed.success


def test_now_is_utc(scene: Scene, push: Callable[[str], Reference]) -> None:
    scene.tick()
    push("one")
    scene.tick()
    assert abs(scene.state(ONE).changed - datetime.now(UTC)) < timedelta(minutes=1)
