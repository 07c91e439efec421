"""The dashboard asks only for metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.defs.operations.run_metrics import RunMetrics
from aml_images_dagster.metrics import Exporter, StoreMetrics
from aml_images_dagster.settings import load_settings
from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from prometheus_client import Metric

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "aml-images.json").read_text("utf-8"))
EXPRESSIONS = [(panel["title"], target) for panel in DASHBOARD["panels"] for target in panel["targets"]]
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",)}


@pytest.fixture
def families(tmp_path: Path) -> dict[str, Metric]:
    """Every series that the exporter can have, with its family."""
    repository = ImageRepository.create(tmp_path / "repository")
    with dg.instance_for_test() as instance:
        store = StoreMetrics(Artifacts(str(tmp_path / "artifacts")), load_settings(repo=repository.root))
        exporter = Exporter([store, RunMetrics(instance)], pytest.fail)
        exporter.refresh()
        found = list(exporter.collect())
    return {f"{family.name}{suffix}": family for family in found for suffix in SUFFIXES[family.type]}


def test_every_expression_names_metrics_that_there_are(families: dict[str, Metric]) -> None:
    named = {name for _, target in EXPRESSIONS for name in re.findall(r"\baml_images_\w+", target["expr"])}
    assert named - families.keys() == set()
    shown = {family.name for name in named for family in [families[name]]}
    assert {family.name for family in families.values()} - shown == {
        "aml_images_builds_unreadable",
        "aml_images_latest_moved_timestamp_seconds",
    }


@pytest.mark.parametrize(("panel", "target"), EXPRESSIONS)
def test_labels_are_those_of_the_metric(panel: str, target: dict[str, Any], families: dict[str, Metric]) -> None:
    expression, legend = target["expr"], target["legendFormat"]
    has: set[str] = {"le"}
    for name in re.findall(r"\baml_images_\w+", expression):
        has |= set(families[name]._labelnames)
    grouped = [label for by in re.findall(r"by \(([\w, ]+)\)", expression) for label in re.split(r", *", by)]
    asked = [*grouped, *re.findall(r"[{,] *(\w+)=", expression), *re.findall(r"{{(\w+)}}", legend)]
    assert set(asked) <= has, panel


def test_panels_have_titles_places_and_one_data_source() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == len({panel["title"] for panel in panels})
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24
    (variable,) = DASHBOARD["templating"]["list"]
    assert {target["datasource"]["uid"] for _, target in EXPRESSIONS} == {f"${{{variable['name']}}}"}
