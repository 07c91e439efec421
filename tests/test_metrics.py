"""Metrics of builds, images and releases, from records as builds write them; and the exporter."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from aml_images_dagster.builds.artifacts import Artifacts, write_atomically
from aml_images_dagster.builds.housekeeping.cleanup import CleanupReport
from aml_images_dagster.builds.ledger import Ledger, ReleaseRecord, TagChange
from aml_images_dagster.builds.records import PassedImage, Plan, PlannedImage, TestedImage
from aml_images_dagster.metrics import Exporter, StoreMetrics
from aml_images_dagster.settings import load_settings
from tests.image_repository import ImageRepository
from tests.records import DIGEST, NOW, build_record, passed_scenario, staged_image

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import Metric


class Store:
    """An artifacts store, and what its metrics say."""

    def __init__(self, root: Path) -> None:
        repository = ImageRepository.create(root)
        self.artifacts = Artifacts(str(root / "artifacts"))
        self._metrics = StoreMetrics(self.artifacts, load_settings(repo=repository.root))

    def build(self, number: str, status: str, actions: tuple[Any, ...] = (), **fields: Any) -> None:
        folder = self.artifacts.build(number)
        folder.write_build(build_record(number, status=status, **fields))
        images = tuple(
            PlannedImage(image=f"a/{i}", action=action, because=(), reasons=(), bases=(), scenarios=())
            for i, action in enumerate(actions)
        )
        folder.write_plan(Plan(commit="abc", images=images))

    def released(self, action: Any, after: str | None, built_hours: int, tag: str = "latest") -> None:
        change = TagChange(image="tools/shell", repository="public/shell", tag=tag, before=None, after=after)
        for begun in (None, 1):
            about = {"who": "ada", "when": NOW, "build": "x", "commit": "", "release_tag": "v1", "changes": (change,)}
            built = NOW + timedelta(hours=built_hours)
            record = ReleaseRecord.model_validate(
                {"number": 1, "action": action, "begun": begun, "built": built, **about}
            )
            Ledger(self.artifacts).append(record)

    def read(self) -> dict[str, float]:
        samples = (sample for family in self._metrics.read() for sample in family.samples)
        return {" ".join((sample.name, *sample.labels.values())): sample.value for sample in samples}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "repository")


def test_builds_are_counted_by_outcome_and_trigger_and_never_fall(store: Store) -> None:
    store.build("20261123.00000001", "succeeded", ("build", "reuse", "reuse"), trigger="schedule")
    store.build("20261123.00000002", "failed", ("build",), trigger="command line")
    store.build("20261123.00000003", "running", ("build",))
    store.build("20261123.00000004", "partial", pull_request="7")
    write_atomically(store.artifacts.build("20261123.00000005").root / "build.json", b"{")
    first = store.read()
    assert first["aml_images_builds_total succeeded schedule"] == 1
    assert first["aml_images_builds_total failed command line"] == 1
    assert not [name for name in first if "pull request" in name]  # it may yet fail
    assert (first["aml_images_planned_images_total build"], first["aml_images_planned_images_total reuse"]) == (2, 2)
    assert first["aml_images_builds_unreadable"] == 1
    store.build("20261123.00000001", "expired", ("build", "reuse", "reuse"), trigger="schedule")
    store.build("20261123.00000003", "failed", ("build",), trigger="schedule")
    store.build("20261123.00000004", "failed", pull_request="7")
    second = store.read()
    assert second["aml_images_builds_total succeeded schedule"] == 1
    assert second["aml_images_builds_total failed schedule"] == 1
    assert second["aml_images_builds_total failed pull request"] == 1
    assert second["aml_images_planned_images_total build"] == 3


def test_an_image_has_its_last_size_and_times(store: Store) -> None:
    scenario = passed_scenario("runs", "x", seconds=12.5)
    tested = TestedImage(image="tools/shell", digest=DIGEST, scenarios=(scenario,))
    staged = staged_image("tools/shell", "20261123.00000001", seconds=34.5, size_bytes=1000)
    store.artifacts.write_passed(PassedImage(staged=staged, tested=tested))
    found = store.read()
    assert found["aml_images_image_build_seconds tools/shell"] == 34.5
    assert found["aml_images_image_size_bytes tools/shell"] == 1000
    assert found["aml_images_scenario_seconds tools/shell runs"] == 12.5
    assert "aml_images_image_size_bytes apps/hello" not in found


def test_a_reused_image_keeps_the_time_of_its_build(store: Store) -> None:
    store.build("20261123.00000001", "succeeded", ("build",))
    made = staged_image("tools/shell", "20261123.00000001", seconds=34.5)
    store.artifacts.build("20261123.00000001").write_staged(made)
    tested = TestedImage(image="tools/shell", digest=DIGEST, scenarios=())
    store.artifacts.write_passed(PassedImage(staged=made.model_copy(update={"seconds": 0.0}), tested=tested))
    assert store.read()["aml_images_image_build_seconds tools/shell"] == 34.5


def test_the_age_of_an_image_follows_releases_rollbacks_and_withdrawals(store: Store) -> None:
    name = "aml_images_released_build_timestamp_seconds tools/shell"
    assert name not in store.read()
    for action, after, hours in (("release", DIGEST, 0), ("release", DIGEST, 5), ("rollback", DIGEST, 0)):
        store.released(action, after, hours)
        assert store.read()[name] == (NOW + timedelta(hours=hours)).timestamp()
    store.released("withdrawal", None, 0, tag="20261123.v1")
    assert store.read()["aml_images_latest_moved_timestamp_seconds tools/shell"] == NOW.timestamp()


def test_incomplete_cleanups_are_counted(store: Store) -> None:
    store.build("20261123.00000001", "failed")
    assert store.read()["aml_images_builds_not_clean"] == 0
    report = CleanupReport(build="20261123.00000001", rows=(), clean=False, attempts=1, finished=NOW)
    folder = store.artifacts.build("20261123.00000001").root
    write_atomically(folder / "cleanup.json", report.model_dump_json().encode())
    assert store.read()["aml_images_builds_not_clean"] == 1


class Source:
    def __init__(self, name: str) -> None:
        self.name = name
        self.fault: Exception | None = None
        self.value = 1

    def read(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(f"of_{self.name}", "A number.")
        family.add_metric([], self.value)
        yield family
        if self.fault:
            raise self.fault


def samples(exporter: Exporter, path: Path) -> dict[str, float]:
    exporter.write(path)
    families = text_string_to_metric_families(path.read_text())
    return {"".join((s.name, *s.labels.values())): s.value for family in families for s in family.samples}


def test_a_source_that_is_away_is_shown_and_hides_nothing(tmp_path: Path) -> None:
    warnings: list[str] = []
    one, two = Source("one"), Source("two")
    exporter = Exporter([one, two], warnings.append)
    exporter.refresh()
    one.value = two.value = 2
    one.fault = ConnectionError("the database is away")
    exporter.refresh()
    found = samples(exporter, tmp_path / "aml.prom")
    assert (found["of_one"], found["of_two"]) == (1, 2)
    assert found["aml_images_metrics_refresh_failedone"] == 1
    assert found["aml_images_metrics_refresh_failedtwo"] == 0
    age = found["aml_images_metrics_refreshed_timestamp_secondstwo"]
    assert age > found["aml_images_metrics_refreshed_timestamp_secondsone"]
    assert warnings == ["one: the database is away"]
    one.fault = None
    exporter.refresh()
    found = samples(exporter, tmp_path / "aml.prom")
    assert (found["of_one"], found["aml_images_metrics_refresh_failedone"]) == (2, 0)
