"""The exporter keeps what it has read while a source is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from aml_images_dagster.metrics.exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import Metric


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
