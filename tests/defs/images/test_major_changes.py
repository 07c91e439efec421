"""What changes against production: said in builds of pull requests, with a warning of what may break users."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.versions.image_difference import ImageDifference
from aml_images_dagster.builds.versions.production_difference import ProductionDifference
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


def observations(done: Run) -> dict[str, str | None]:
    """What is said of each staged image."""
    events = [
        event.asset_observation_data.asset_observation for event in done.result.all_events if event.is_asset_observation
    ]
    return {
        "/".join(each.asset_key.path): each.description
        for each in events
        if each.asset_key.path[-1].endswith(".staged")
    }


def warnings(instance: dg.DagsterInstance, done: Run) -> list[str]:
    """What the log of the build warns of."""
    return [entry.user_message for entry in instance.all_logs(done.result.run_id) if entry.level == logging.WARNING]


@pytest.mark.parametrize(
    ("found", "may_break", "said"),
    [
        (difference(PYTHON), True, "may break users: Python 3.10 → 3.12; its release needs --accept-major"),
        (difference(), False, "no platform that both have"),
        (ProductionDifference(DIGEST, None, "no answer"), False, "what changed is not known: no answer"),
        (ProductionDifference(DIGEST, None, "not released yet", is_first=True), False, "not released yet"),
    ],
)
def test_it_is_said_in_a_pull_request_and_stops_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, found: ProductionDifference, may_break: bool, said: str
) -> None:
    monkeypatch.setattr(staged, "against_production", lambda *_: found)
    done = scene.build(**PULL_REQUEST)

    assert done.result.success
    assert observations(done) == {f"{image}.staged": said for image in ALL}
    assert (said in warnings(scene.instance, done)) is may_break


def test_nothing_is_compared_in_other_builds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged, "against_production", lambda *_: pytest.fail("it compares"))
    done = scene.build()

    assert done.result.success
    assert observations(done) == {}
