"""Runs of the command line belong to the code location and its job; what is private in Dagster for it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG

from aml_images_dagster.cli.dagster_run import execute_located_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dg.asset
def wanted() -> None: ...


@dg.asset
def unwanted() -> None: ...


@dg.asset
def broken() -> None:
    raise dg.Failure("it is broken")


def some_job() -> dg.JobDefinition:
    job = dg.define_asset_job("some_job", tags={"of": "the job"}, executor_def=dg.in_process_executor)
    return dg.Definitions([wanted, unwanted, broken], jobs=[job]).resolve_job_def("some_job")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


def execute(instance: dg.DagsterInstance, asset: str) -> dg.DagsterRun:
    execute_located_job(dg.reconstructable(some_job), instance, [dg.AssetKey(asset)], {}, {"of_the": "run"})
    (run,) = instance.get_runs()
    return run


def test_a_run_is_one_of_the_location_and_its_job(instance: dg.DagsterInstance) -> None:
    run = execute(instance, "wanted")
    assert run.is_success
    assert run.job_name == "some_job"
    assert run.asset_selection == {dg.AssetKey("wanted")}
    assert run.tags.items() >= {"of": "the job", "of_the": "run"}.items()
    assert instance.get_latest_materialization_event(dg.AssetKey("wanted"))
    assert not instance.get_latest_materialization_event(dg.AssetKey("unwanted"))


def test_the_ui_finds_it_there(instance: dg.DagsterInstance) -> None:
    """By the label that the pages of the location, of the job and of all runs ask for."""
    execute(instance, "wanted")
    label = "__repository__@aml_images_dagster"
    assert len(instance.get_runs(dg.RunsFilter(job_name="some_job", tags={REPOSITORY_LABEL_TAG: label}))) == 1


def test_a_run_that_fails_is_there_too(instance: dg.DagsterInstance) -> None:
    assert execute(instance, "broken").is_failure
