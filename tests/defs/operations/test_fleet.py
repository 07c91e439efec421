"""The asset of the fleet shows its table and keeps its page; the sensor has it made again after changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs import operations
from aml_images_dagster.defs.keys import FLEET, FLEET_JOB
from aml_images_dagster.defs.operations import fleet as module
from aml_images_dagster.defs.run import FACTORY, Factory
from tests.fleet import fleets
from tests.fleet.conftest import FleetWorld

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> FleetWorld:
    return FleetWorld(tmp_path)


@pytest.fixture
def definitions(world: FleetWorld) -> dg.Definitions:
    factory = Factory(world.settings, load_source(world.settings), world.backends)
    return dg.Definitions.merge(operations.definitions(factory), dg.Definitions(resources={FACTORY: factory}))


def materialized(definitions: dg.Definitions) -> dict[str, object]:
    """Metadata of the asset after a run of its job."""
    with dg.DagsterInstance.ephemeral() as instance:
        done = definitions.resolve_job_def(FLEET_JOB).execute_in_process(instance=instance)
        (event,) = done.get_asset_materialization_events()
        assert event.asset_key == FLEET
        return {name: entry.value for name, entry in event.materialization.metadata.items()}


def test_the_table_and_the_page_show_what_is_in_production(world: FleetWorld, definitions: dg.Definitions) -> None:
    world.release(world.record(world.build(1)))
    shown = materialized(definitions)
    assert shown["summary"] == "1 image: 1 watch"
    (row,) = [record.data for record in shown["images"].records]  # type: ignore[attr-defined]
    assert (row["image"], row["concerns"], row["in production"]) == ("base/a", "not yet scanned", "v1")
    page = world.artifacts.root / "fleet" / "fleet.html"
    assert shown["page"] == str(page)
    assert "base/" in page.read_text()
    assert json.loads((page.parent / "fleet.json").read_text())["counts"]["watch"] == 1


def test_a_last_build_whose_image_was_withdrawn_is_called_so(world: FleetWorld, definitions: dg.Definitions) -> None:
    for number in (1, 2):
        world.release(world.record(world.build(number)))
    world.roll_back()
    world.withdraw("v2")
    (row,) = [record.data for record in materialized(definitions)["images"].records]  # type: ignore[attr-defined]
    assert row["last build"] == "20261123.00000002 succeeded, withdrawn"


def test_a_repository_that_has_released_nothing_has_a_page(definitions: dg.Definitions) -> None:
    assert materialized(definitions)["summary"] == "1 image: 1 not released"


def test_a_table_of_many_images_says_what_it_leaves_out(
    definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "collect_fleet", lambda *_: fleets.fleet(fleets.of_size(201)))
    records = materialized(definitions)["images"].records  # type: ignore[attr-defined]
    assert len(records) == 201
    assert records[-1].data["image"] == "and 1 more: see the page"


def test_it_is_collected_after_each_change_of_production_and_again_when_that_has_failed(
    world: FleetWorld, definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = definitions.get_repository_def().get_sensor_def(module.SENSOR)
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(cursor: str | None) -> tuple[int, str | None, str | None]:
            context = dg.build_sensor_context(instance, cursor, sensor_name=sensor.name, definitions=definitions)
            result = sensor.evaluate_tick(context)
            return len(result.run_requests or ()), result.cursor, result.skip_message

        assert tick(None)[2] == "nothing was released yet"
        world.release(world.record(world.build(1)))
        asked, cursor, _ = tick(None)
        assert asked == 1
        assert tick(cursor)[::2] == (0, "production is what it was")
        world.release(world.record(world.build(2)))
        asked, cursor, _ = tick(cursor)
        assert asked == 1
        run = instance.add_run(dg.DagsterRun(FLEET_JOB, status=dg.DagsterRunStatus.STARTED))
        instance.report_run_failed(run)
        assert tick(cursor)[::2] == (0, "production is what it was")
        monkeypatch.setattr(module, "_TRY_AGAIN_SECONDS", -1)
        assert tick(cursor)[0] == 1, "it has failed some time ago"
