"""The job that releases, with the real registries: what it shows, and what it must not do."""

# ruff: noqa: F811 - fixtures of another folder are imported by name

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.records import AttachedArtifact, EvidenceRecord
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.definitions import definitions
from aml_images_dagster.defs.keys import PROMOTED, RELEASE_JOB, RELEASED, ROLLBACK_JOB, WITHDRAW_JOB, released_key
from aml_images_dagster.defs.release.released import released_assets
from aml_images_dagster.defs.release.sensors import automatic_release_sensor, production_records_sensor
from aml_images_dagster.defs.request import RELEASE_RULE_TAG
from aml_images_dagster.defs.run import BUILD_TAG, FACTORY, Factory
from aml_images_dagster.instance.sign_in import SIGNED_IN_TAG
from tests.release.conftest import House, complete_build, digests, house, staged_build  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aml_images_dagster.release.release_json import ReleaseJson

pytestmark = pytest.mark.engine

IMAGES = ("apps/hello", "apps/other")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


class Ui:
    """What a person can start in the UI."""

    def __init__(self, house: House, instance: dg.DagsterInstance) -> None:
        self.house = house
        self.instance = instance

    def run(self, job: str, config: dict[str, Any], **tags: str) -> dg.ExecuteInProcessResult:
        defs = definitions(self.house.settings)
        return defs.resolve_job_def(job).execute_in_process(
            run_config=config, instance=self.instance, raise_on_error=False, tags=tags
        )

    def release(self, build: str, **options: Any) -> dg.ExecuteInProcessResult:
        return self.run(RELEASE_JOB, {"ops": {RELEASED: {"config": {"build": build, **options}}}})

    def look_again(self, *images: str, **options: Any) -> dg.ExecuteInProcessResult:
        """Execute the check alone."""
        keys = [dg.AssetCheckKey(released_key(self.house.repository.image(image)), PROMOTED) for image in images]
        where = factory(self.house)
        return dg.materialize(
            [released_assets(list(where.source.catalog.images.values()), where.settings)],
            resources={FACTORY: where},
            selection=dg.AssetSelection.checks(*keys),
            run_config={"ops": {RELEASED: {"config": options}}},
            instance=self.instance,
            raise_on_error=False,
        )

    def serve_production_to_the_public(self) -> None:
        """What is public is what production serves: nothing is late."""
        names = f"{self.house.backends.production.host}/{self.house.settings.production_names}"
        self.house.configure(public_names=names, promotion_timeout_minutes=0.001)

    def shown(self, image: str) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(released_key(self.house.repository.image(image)))
        assert event is not None
        assert event.asset_materialization is not None
        return {key: value.value for key, value in event.asset_materialization.metadata.items()}


@pytest.fixture
def ui(house: House, instance: dg.DagsterInstance) -> Ui:
    return Ui(house, instance)


def test_a_release(ui: Ui, complete_build: Callable[..., ReleaseJson]) -> None:
    release = complete_build(*IMAGES)
    done = ui.release(release.build, who="the release engineer")
    assert done.success
    materialized = {event.asset_key for event in done.get_asset_materialization_events()}
    assert materialized == {released_key(ui.house.repository.image(image)) for image in IMAGES}
    wanted = digests(release, latest=False) | digests(release, latest=True)
    assert {name: ui.house.served(name) for name in wanted} == wanted
    shown = ui.shown("apps/other")
    assert (shown["build"], shown["release_tag"]) == (release.build, release.release_tag)
    assert (shown["who"], shown["record"]) == ("the release engineer", 2)
    assert shown["digest"] in wanted.values()
    assert "First release." in shown["release_notes"]
    assert done.get_asset_check_evaluations() == [], "without a public registry nothing is promoted"


def test_a_release_shows_what_is_attached(ui: Ui, complete_build: Callable[..., ReleaseJson]) -> None:
    release = complete_build("apps/other")
    (image,) = release.images
    name = f"{image.family}/{image.name}"
    sbom = AttachedArtifact(
        kind="application/spdx+json",
        digest=f"sha256:{'5' * 64}",
        subject=image.staging.digest,
        name="SPDX",
        content=f"sha256:{'c' * 64}",
    )
    ui.house.backends.artifacts.build(release.build).write_evidence(
        EvidenceRecord(
            image=name,
            digest=image.staging.digest,
            artifacts=(sbom,),
            signed_by="CN=image factory",
            is_test_key=False,
            packages=3,
            without_licence=1,
            attached_in=release.build,
        )
    )
    assert ui.release(release.build).success
    shown = ui.shown("apps/other")
    repository = image.destinations[0].rpartition(":")[0]
    assert (shown["packages"], shown["signed_by"]) == (3, "CN=image factory")
    assert shown["sbom"] == f"[SPDX]({ui.house.backends.production.url}/v2/{repository}/blobs/{sbom.content})"


def test_the_check_alone_looks_at_what_was_released_last(ui: Ui, complete_build: Callable[..., ReleaseJson]) -> None:
    house = ui.house
    first, second = complete_build(*IMAGES, tag="v1"), complete_build("apps/other", tag="v2")
    for release in (first, second):
        house.releaser().release(release)
    hello, other = (house.repository.image(image) for image in IMAGES)
    ui.serve_production_to_the_public()
    for options, tags in (({}, {hello: "v1", other: "v2"}), ({"build": first.build}, {hello: "v1", other: "v1"})):
        done = ui.look_again(*IMAGES, **options)
        assert done.success
        checks = {check.asset_key: check for check in done.get_asset_check_evaluations()}
        assert set(checks) == {released_key(hello), released_key(other)}
        for image, tag in tags.items():
            looked = str(checks[released_key(image)].metadata["tags"].value)
            assert f":{tag}: there" in looked
    assert len(house.ledger.records()) == 4


def test_images_outside_of_the_build_are_left_alone(ui: Ui, complete_build: Callable[..., ReleaseJson]) -> None:
    ui.serve_production_to_the_public()
    release = complete_build("apps/other")
    done = ui.release(release.build)
    assert done.success
    (check,) = done.get_asset_check_evaluations()
    assert check.asset_key == released_key(ui.house.repository.image("apps/other"))
    events = ui.instance.all_logs(done.run_id)
    assert [event.user_message for event in events if "did not yield" in event.user_message] == []


def test_the_check_alone_before_any_release(ui: Ui) -> None:
    ui.serve_production_to_the_public()
    done = ui.look_again("apps/other")
    assert not done.success
    (failure,) = done.filter_events(lambda event: event.is_step_failure)
    assert "these images have no recorded release" in str(failure.step_failure_data.user_failure_data)


def test_a_dry_run_materializes_nothing(ui: Ui, complete_build: Callable[..., ReleaseJson]) -> None:
    release = complete_build(*IMAGES)
    done = ui.release(release.build, dry_run=True)
    assert done.success
    assert done.get_asset_materialization_events() == []
    assert len(done.get_asset_observation_events()) == len(IMAGES)
    assert set(ui.house.latest(release).values()) == {None}
    assert ui.house.ledger.records() == ()


def test_a_build_that_may_not_be_released(ui: Ui, complete_build: Callable[..., ReleaseJson]) -> None:
    release = complete_build(*IMAGES)
    ui.house.backends.artifacts.build(release.build).finish("running")
    done = ui.release(release.build)
    assert not done.success
    (failure,) = done.filter_events(lambda event: event.is_step_failure)
    assert "still running" in str(failure.step_failure_data.user_failure_data)


def test_a_roll_back_and_a_withdrawal(ui: Ui, complete_build: Callable[..., ReleaseJson]) -> None:
    first, second = complete_build("apps/other", tag="v1"), complete_build("apps/other", tag="v2")
    for release in (first, second):
        assert ui.release(release.build).success
    image = ui.house.repository.image("apps/other")
    done = ui.run(ROLLBACK_JOB, {"ops": {"roll_back_latest": {"config": {"image": image, "reason": "it is broken"}}}})
    assert done.success
    assert ui.house.latest(first) == digests(first, latest=True)
    shown = ui.shown("apps/other")
    assert (shown["action"], shown["release_tag"], shown["reason"]) == ("rollback", "v1", "it is broken")
    gone = {"image": image, "tag": "v2", "reason": "a hole"}
    assert ui.run(WITHDRAW_JOB, {"ops": {"withdraw_tag": {"config": gone}}}).success
    assert ui.house.served(next(iter(digests(second, latest=False)))) is None


def factory(house: House) -> Factory:
    return Factory(house.settings, load_source(house.settings), house.backends)


def test_what_the_command_line_did_is_shown_once(
    ui: Ui,
    complete_build: Callable[..., ReleaseJson],
) -> None:
    first, second = complete_build("apps/other", tag="v1"), complete_build("apps/other", tag="v2")
    ui.house.releaser("the command line").release(first)
    assert ui.release(second.build).success
    sensor = production_records_sensor(factory(ui.house))
    context = dg.build_sensor_context(instance=ui.instance)
    said = sensor(context)
    assert ui.shown("apps/other")["release_tag"] == "v2"
    assert isinstance(said, dg.SensorResult)
    assert said.cursor == "4"
    key = released_key(ui.house.repository.image("apps/other"))
    assert len(ui.instance.fetch_materializations(key, limit=10).records) == 1
    third = complete_build("apps/other", tag="v3")
    ui.house.releaser("the command line").release(third)
    sensor(dg.build_sensor_context(instance=ui.instance, cursor=said.cursor))
    assert ui.shown("apps/other")["release_tag"] == "v3"
    assert ui.shown("apps/other")["who"] == "the command line"


def test_a_build_that_is_released_by_itself(ui: Ui, complete_build: Callable[..., ReleaseJson]) -> None:
    release, other = complete_build("apps/other", tag="v1"), complete_build("apps/other", tag="v2")
    for build, rule in ((release, "automatic"), (other, "approval")):
        run = dg.DagsterRun(
            "build", tags={RELEASE_RULE_TAG: rule, BUILD_TAG: build.build}, status=dg.DagsterRunStatus.SUCCESS
        )
        ui.instance.add_run(run)
    sensor = automatic_release_sensor(factory(ui.house))
    asked = sensor(dg.build_sensor_context(instance=ui.instance))
    assert isinstance(asked, dg.SensorResult)
    (request,) = asked.run_requests or []
    assert request.run_config["ops"][RELEASED]["config"]["build"] == release.build
    assert ui.run(RELEASE_JOB, dict(request.run_config)).success
    assert isinstance(sensor(dg.build_sensor_context(instance=ui.instance)), dg.SkipReason)


def test_the_record_names_the_user_whom_the_proxy_has_let_in(
    ui: Ui, complete_build: Callable[..., ReleaseJson]
) -> None:
    release = complete_build(*IMAGES)
    config = {"ops": {RELEASED: {"config": {"build": release.build, "who": "somebody else"}}}}
    assert ui.run(RELEASE_JOB, config, **{SIGNED_IN_TAG: "ada"}).success
    assert {record.who for record in Ledger(ui.house.backends.artifacts).records()} == {"ada"}


def operation(name: str, **options: Any) -> dict[str, Any]:
    return {"ops": {name: {"config": options}}}


def failed_with(done: dg.ExecuteInProcessResult) -> str:
    """What the page of a failed run says; it has no stack."""
    assert not done.success
    (step,) = [event for event in done.all_events if event.is_step_failure]
    assert step.step_failure_data.error is not None
    assert step.step_failure_data.error.stack == []
    (run,) = [event for event in done.all_events if event.event_type is dg.DagsterEventType.RUN_FAILURE]
    assert run.job_failure_data.error is None or run.job_failure_data.error.stack == []
    assert step.step_failure_data.user_failure_data is not None
    return str(step.step_failure_data.user_failure_data.description)


def test_jobs_take_the_name_alone_and_show_what_would_change(
    ui: Ui, complete_build: Callable[..., ReleaseJson]
) -> None:
    house = ui.house
    first, second = (complete_build("apps/other", tag=tag) for tag in ("v1", "v2"))
    for release in (first, second):
        house.releaser().release(release)
    image = house.repository.image("apps/other")
    short = image.partition("/")[2]
    records = house.ledger.records()
    for job, config in (
        (ROLLBACK_JOB, operation("roll_back_latest", image=short, dry_run=True)),
        (WITHDRAW_JOB, operation("withdraw_tag", image=short, tag="v1", reason="a hole", dry_run=True)),
    ):
        assert ui.run(job, config).success
        assert house.ledger.records() == records
    assert ui.run(ROLLBACK_JOB, operation("roll_back_latest", image=short)).success, "a reason may be left out"
    assert house.latest(first) == digests(first, latest=True)


@pytest.mark.parametrize("reason", ["", "  "])
def test_jobs_refuse_a_reason_that_says_nothing(
    ui: Ui, complete_build: Callable[..., ReleaseJson], reason: str
) -> None:
    release = complete_build("apps/other", tag="v1")
    image = ui.house.repository.image("apps/other")
    ui.house.releaser().release(release)
    records = ui.house.ledger.records()
    withdrawn = ui.run(WITHDRAW_JOB, operation("withdraw_tag", image=image, tag="v1", reason=reason))
    assert "a reason is needed" in failed_with(withdrawn)
    if reason:
        rolled_back = ui.run(ROLLBACK_JOB, operation("roll_back_latest", image=image, reason=reason))
        assert "a reason is needed" in failed_with(rolled_back)
        assert "a reason is needed" in failed_with(ui.release(release.build, outside_window=reason))
    assert ui.house.ledger.records() == records
