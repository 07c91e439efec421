"""Serves metrics, or writes them into a file for the node exporter.

Metrics are read from records at intervals, and a scrape gets what was read last: it never waits for a store or a
database. Format: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from prometheus_client import Metric


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
