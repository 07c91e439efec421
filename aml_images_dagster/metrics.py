"""Metrics of the factory in Prometheus' format: those of the artifacts, and their server.

They are read from records at intervals, and a scrape gets what was read last: it never waits for a store or a
database. Those of the artifacts (builds, images, cleanups, releases) are the same whichever process reads them.
Format: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from aml_images_dagster.builds.housekeeping.cleanup import not_clean
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from prometheus_client import Metric

    from aml_images_dagster.builds.artifacts import Artifacts, BuildFolder
    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.builds.records import StagedImage
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
        if record is None or record.status in ("running", "partial"):  # the latter may yet fail
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
            took = passed.staged.seconds or self._took(passed.staged)
            if took:
                seconds.add_metric([image], took)
            for scenario in passed.tested.scenarios:
                tests.add_metric([image, scenario.scenario], scenario.seconds)
        yield from (seconds, size, tests)

    def _took(self, reused: StagedImage) -> float:
        """How long the build of a reused image took, in the build that made it; 0 if that has no record any more."""
        with suppress(FactoryError):
            made = self._artifacts.build(reused.built_in).read_staged(reused.image)
            return made.seconds if made is not None and made.digest == reused.digest else 0.0
        return 0.0


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


class MetricSource(Protocol):
    """Reads some metrics."""

    name: str
    """Label of its own state."""

    def read(self) -> Iterable[Metric]:
        """What they are now. An exception keeps those that were read before."""


class Exporter(Collector):
    """All metrics.

    Args:
        sources: Where they are read from.
        warn: Called with the reason when a source cannot be read.
    """

    def __init__(self, sources: Sequence[MetricSource], warn: Callable[[str], None]) -> None:
        self._sources = sources
        self._warn = warn
        self._read: dict[str, list[Metric]] = {}
        self._refreshed: dict[str, float] = {}
        self._failed: dict[str, bool] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def refresh(self) -> None:
        """Read every source."""
        for source in self._sources:
            try:
                self._read[source.name] = list(source.read())
            except Exception as error:  # noqa: BLE001 - a store or a database that is away is shown, and read again
                self._failed[source.name] = True
                self._warn(f"{source.name}: {error}")
            else:
                self._failed[source.name] = False
                self._refreshed[source.name] = time.time()

    @override
    def collect(self) -> Iterable[Metric]:
        refreshed = GaugeMetricFamily(
            "aml_images_metrics_refreshed_timestamp_seconds", "When a source was read last.", labels=["source"]
        )
        failed = GaugeMetricFamily(
            "aml_images_metrics_refresh_failed", "1 if a source could not be read the last time.", labels=["source"]
        )
        for source, moment in self._refreshed.items():
            refreshed.add_metric([source], moment)
        for source, is_failed in self._failed.items():
            failed.add_metric([source], is_failed)
        for metrics in [*self._read.values()]:
            yield from metrics
        yield from (refreshed, failed)

    def write(self, path: Path) -> None:
        """Write a file, whole. The node exporter wants a name that ends in .prom."""
        write_to_textfile(str(path), self._registry)

    def serve(self, host: str, port: int) -> None:
        """Serve in another thread.

        Raises:
            OSError: The address cannot be had.
        """
        start_http_server(port, host, self._registry)
