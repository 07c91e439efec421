"""The check of major changes: a warning in builds of pull requests, and nothing in others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.image_difference import ImageDifference
from aml_images_dagster.builds.production_difference import ProductionDifference
from aml_images_dagster.defs.images import staged
from aml_images_dagster.defs.request import PULL_REQUEST_TAG
from aml_images_dagster.trust.difference import MajorChange
from tests.defs.planned_runs import ALL, Run, Scene
from tests.records import DIGEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PYTHON = MajorChange("Python", "3.10", "3.12")
PULL_REQUEST = {PULL_REQUEST_TAG: "7"}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scene(tmp_path, instance)


def difference(*major: MajorChange) -> ProductionDifference:
    found = ImageDifference("apps/a", "v1", "v2", DIGEST, DIGEST, major, (), (), (), "", ())
    return ProductionDifference(DIGEST, found)


def evaluations(done: Run) -> list[dg.AssetCheckEvaluation]:
    return [each for each in done.result.get_asset_check_evaluations() if each.check_name == "major_changes"]


@pytest.mark.parametrize(
    ("found", "passed", "said"),
    [
        (difference(PYTHON), False, "may break users: Python 3.10 → 3.12; its release needs --accept-major"),
        (difference(), True, "no platform that both have"),
        (ProductionDifference(DIGEST, None, "no answer"), False, "what changed is not known: no answer"),
        (ProductionDifference(DIGEST, None, "not released yet", is_first=True), True, "not released yet"),
    ],
)
def test_it_warns_in_a_pull_request_and_stops_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, found: ProductionDifference, passed: bool, said: str
) -> None:
    monkeypatch.setattr(staged, "against_production", lambda *_: found)
    done = scene.build(**PULL_REQUEST)

    checks = evaluations(done)
    assert {str(check.asset_key.path[-1]) for check in checks} == {f"{image.partition('/')[2]}.staged" for image in ALL}
    assert {(check.passed, check.severity, check.description) for check in checks} == {
        (passed, dg.AssetCheckSeverity.WARN, said)
    }


def test_nothing_is_compared_in_other_builds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged, "against_production", lambda *_: pytest.fail("it compares"))
    done = scene.build()

    assert evaluations(done) == []
    assert not any("did not yield" in str(event.message) for event in done.result.all_events)
