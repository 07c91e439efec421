"""The progress of a build from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent

from aml_images_dagster.builds.records import Plan, PlannedImage
from aml_images_dagster.cli import progress
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.progress import Progress
from aml_images_dagster.defs.keys import BUILD_JOB, asset_key

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

KINDS = dg.DagsterEventType
IMAGE = "apps/hello"


def test_what_a_run_did_since_the_last_look_is_shown_however_much_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_AT_ONCE", 5)
    planned = PlannedImage(image=IMAGE, action="build", because=("new",), reasons=(), bases=(), scenarios=())
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        run = instance.add_run(dg.DagsterRun(BUILD_JOB, tags={"it": "is this"}))
        for number in range(12):
            report(instance, run.run_id, KINDS.STEP_START, f"other_{number}")
        data = AssetMaterializationPlannedData(asset_key(IMAGE, "staged"))
        instance.report_dagster_event(
            DagsterEvent.build_asset_materialization_planned_event(BUILD_JOB, "ours", data), run.run_id
        )
        report(instance, run.run_id, KINDS.STEP_START, "ours")
        report(instance, run.run_id, KINDS.STEP_SKIPPED, "ours")
        printed = tmp_path / "printed"
        with printed.open("w", buffering=1) as file:
            console = open_console(file=file)
            with Progress(instance, {"it": "is this"}, Plan(commit="", images=(planned,)), console):
                pass  # the command has ended: this is the one look
        assert f"{IMAGE} staged: skipped" in printed.read_text()


def report(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType, step: str) -> None:
    instance.report_dagster_event(DagsterEvent(kind.value, BUILD_JOB, step_key=step), run_id)
