"""Metrics from the artifacts: builds, images, cleanups and releases. They are the same whichever process reads them."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from aml_images_dagster.builds.cleanup import not_clean
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

    from aml_images_dagster.builds.artifacts import Artifacts, BuildFolder
    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.settings import Settings

_OUTCOMES = {"expired": "succeeded", "removed": "succeeded"}
"""A build that expires or is removed had succeeded; a counter must not fall."""


@dataclass(frozen=True, slots=True)
class _EndedBuild:
    outcome: str
    trigger: str
    actions: Counter[str]


class StoreMetrics:
    """Reads the artifacts; builds that have ended are read once.

    Args:
        artifacts: The store.
        settings: Which images there are.
    """

    name = "artifacts"

    def __init__(self, artifacts: Artifacts, settings: Settings) -> None:
        self._artifacts = artifacts
        self._settings = settings
        self._ended: dict[str, _EndedBuild] = {}

    def read(self) -> Iterable[Metric]:
        """See `MetricSource`.

        Raises:
            FactoryError: The store does not answer, or a release record cannot be read.
        """
        yield from self._builds()
        catalog = load_catalog(self._settings, WorkingTree(self._settings.repo))
        yield from self._images(sorted(catalog.images))
        yield from _released(Ledger(self._artifacts).records(), catalog.images.keys())
        left = GaugeMetricFamily("aml_images_builds_not_clean", "Builds whose cleanup has left something.")
        left.add_metric([], len(not_clean(self._artifacts)))
        yield left

    def _builds(self) -> Iterator[Metric]:
        unreadable = 0
        for folder in self._artifacts.folders():
            if folder.build not in self._ended:
                try:
                    self._look_at(folder)
                except (FactoryError, OSError):
                    unreadable += 1
        ended = CounterMetricFamily(
            "aml_images_builds",
            "Builds that have ended, by outcome and by what started them.",
            labels=["outcome", "trigger"],
        )
        for labels, number in Counter((build.outcome, build.trigger) for build in self._ended.values()).items():
            ended.add_metric(labels, number)
        planned = CounterMetricFamily(
            "aml_images_planned_images",
            "Images of builds that have ended, by what was done with them.",
            labels=["action"],
        )
        actions = sum((build.actions for build in self._ended.values()), Counter({"build": 0, "reuse": 0}))
        for action in ("build", "reuse"):
            planned.add_metric([action], actions[action])
        damaged = GaugeMetricFamily("aml_images_builds_unreadable", "Builds whose record cannot be read.")
        damaged.add_metric([], unreadable)
        yield from (ended, planned, damaged)

    def _look_at(self, folder: BuildFolder) -> None:
        record = folder.read_build()
        if record is None or record.status == "running":
            return
        plan = None
        with suppress(FactoryError):  # the build counts without it
            plan = folder.read_plan()
        self._ended[folder.build] = _EndedBuild(
            _OUTCOMES.get(record.status, record.status),
            "pull request" if record.pull_request else record.trigger,
            Counter(planned.action for planned in plan.images) if plan else Counter(),
        )

    def _images(self, images: Iterable[str]) -> Iterator[Metric]:
        seconds = GaugeMetricFamily(
            "aml_images_image_build_seconds",
            "How long the last build of an image took, with its push.",
            labels=["image"],
        )
        size = GaugeMetricFamily(
            "aml_images_image_size_bytes", "Compressed size of the last image that has passed.", labels=["image"]
        )
        tests = GaugeMetricFamily(
            "aml_images_scenario_seconds", "How long the last run of a scenario took.", labels=["image", "scenario"]
        )
        for image in images:
            passed = self._artifacts.read_last_passed(image)
            if passed is None:
                continue
            size.add_metric([image], passed.staged.size_bytes)
            if passed.staged.seconds:  # else it was reused
                seconds.add_metric([image], passed.staged.seconds)
            for scenario in passed.tested.scenarios:
                tests.add_metric([image, scenario.scenario], scenario.seconds)
        yield from (seconds, size, tests)


def _released(records: Iterable[ReleaseRecord], images: Iterable[str]) -> Iterator[Metric]:
    """What `:latest` of each image is, by the records."""
    latest: dict[str, ReleaseRecord] = {}
    for record in records:
        for change in record.changes if record.done else ():
            if change.tag != LATEST:
                continue
            if change.after is None:
                latest.pop(change.image, None)
            else:
                latest[change.image] = record
    built = GaugeMetricFamily(
        "aml_images_released_build_timestamp_seconds",
        "When the build that :latest of an image is from was started.",
        labels=["image"],
    )
    moved = GaugeMetricFamily(
        "aml_images_latest_moved_timestamp_seconds", "When :latest of an image was moved last.", labels=["image"]
    )
    for image in sorted(latest.keys() & {*images}):
        built.add_metric([image], latest[image].built.timestamp())
        moved.add_metric([image], latest[image].when.timestamp())
    yield from (built, moved)
