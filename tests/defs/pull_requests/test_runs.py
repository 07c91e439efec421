"""The run that ends what pull requests no longer need."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.defs.keys import ENDED_BUILDS
from aml_images_dagster.defs.operations.jobs import operations_config
from aml_images_dagster.defs.pull_requests.runs import ending_asset
from aml_images_dagster.defs.run import FACTORY
from aml_images_dagster.errors import Unreachable
from tests.records import build_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUILD = "20261123.aaaaaaaa"
SETTINGS = SimpleNamespace(host_patience_seconds=300)


class Coordinator:
    """Cancels all runs but one."""

    def __init__(self, _: dg.DagsterInstance) -> None: ...

    def cancel_run(self, run_id: str) -> bool:
        if run_id == "stubborn":
            raise RuntimeError("the launcher does not answer")
        CANCELED.append(run_id)
        return True


CANCELED: list[str] = []


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    CANCELED.clear()
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(type(instance), "run_coordinator", property(Coordinator))
        yield instance


def end(instance: dg.DagsterInstance, backends: object = None, **options: list[str]) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [ending_asset()],
        run_config=operations_config(ENDED_BUILDS, **options),
        resources={FACTORY: SimpleNamespace(settings=SETTINGS, backends=backends)},
        instance=instance,
        raise_on_error=False,
    )


def test_runs_are_canceled(instance: dg.DagsterInstance) -> None:
    assert end(instance, cancel=["one", "two"]).success
    assert CANCELED == ["one", "two"]


def test_one_that_cannot_be_canceled_keeps_no_other_and_fails_the_run(instance: dg.DagsterInstance) -> None:
    ended = end(instance, cancel=["stubborn", "other"])
    assert not ended.success
    assert CANCELED == ["other"]
    (failure,) = ended.get_step_failure_events()
    assert "run stubborn cannot be canceled" in str(failure.step_failure_data.user_failure_data.description)


def test_a_build_that_cannot_be_removed_fails_the_run(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    def away(*_: object) -> None:
        raise Unreachable("it does not answer")

    artifacts = Artifacts(str(tmp_path))
    artifacts.build(BUILD).write_build(build_record(BUILD, images=("apps/other",)))
    service = SimpleNamespace(host="registry.example", tags=away, digest=away, cancel=away, live=away, abandon=away)
    backends = SimpleNamespace(
        artifacts=artifacts, staging=service, runner=service, builder=service, windows_builder=None
    )
    ended = end(instance, backends, remove=[BUILD])
    assert not ended.success
    (failure,) = ended.get_step_failure_events()
    assert f"build {BUILD} cannot be removed completely" in str(failure.step_failure_data.user_failure_data.description)
