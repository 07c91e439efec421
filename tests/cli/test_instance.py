"""The folder of the Dagster instance."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from aml_images_dagster.cli.instance import CONFIGURATION, open_instance
from aml_images_dagster.defs.request import QUEUE_TAG
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image_repository import ImageRepository


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, repository: ImageRepository) -> None:
    for name in [name for name in os.environ if name.startswith(("AML_IMAGES_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_HOME", "")  # opening an instance sets it
    monkeypatch.setenv("AML_IMAGES_REPO", str(repository.root))


@pytest.mark.parametrize("home", ["", "state"])
def test_the_instance_is_where_the_settings_say(
    repository: ImageRepository, tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if home:
        monkeypatch.setenv("AML_IMAGES_HOME", str(tmp_path / home))
    expected = (tmp_path / home if home else repository.root / ".aml-images") / "dagster"
    with open_instance(load_settings()) as instance:
        assert instance.root_directory == str(expected)
    assert (expected / "dagster.yaml").resolve() == CONFIGURATION


def test_a_configuration_of_its_own_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with open_instance(load_settings()) as instance:
        assert not instance.run_monitoring_enabled
    assert not (tmp_path / "dagster.yaml").is_symlink()


def test_a_link_to_a_checkout_that_is_gone_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").symlink_to(tmp_path / "gone" / "dagster.yaml")
    open_instance(load_settings()).dispose()
    assert (tmp_path / "dagster.yaml").resolve() == CONFIGURATION


def test_builds_are_limited_and_what_cleans_up_after_them_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with open_instance(load_settings()) as instance:
        assert instance.run_monitoring_enabled
        assert not instance.telemetry_enabled
        queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    assert queue.max_concurrent_runs == -1
    assert [(limit["key"], limit["value"]) for limit in queue.tag_concurrency_limits] == [(QUEUE_TAG, "builds")]


def test_state_is_no_change_of_the_working_tree(
    repository: ImageRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the instance is: a build of a changed tree cannot be released."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "instance"))
    open_instance(load_settings()).dispose()
    (repository.root / ".aml-images" / "artifacts").mkdir()
    (repository.root / ".aml-images" / "artifacts" / "file").touch()
    assert repository.git("status", "--porcelain") == ""


def on_postgres(home: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    (home / "dagster.yaml").symlink_to(CONFIGURATION.with_name("dagster-postgres.yaml"))
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
        if name in variables:
            monkeypatch.setenv(name, variables[name])


PLACE = {"PGHOST": "127.0.0.1", "PGPORT": "9", "PGUSER": "dagster", "PGPASSWORD": "pass-word", "PGDATABASE": "dagster"}


def test_variables_of_the_database_that_are_not_set_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_postgres(tmp_path, monkeypatch, PGHOST="127.0.0.1", PGPORT="9", PGUSER="dagster")
    with pytest.raises(BadInput, match="variables that are not set: PGPASSWORD, PGDATABASE"):
        open_instance(load_settings())


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_postgres(tmp_path, monkeypatch, **PLACE)
    monkeypatch.setitem(sys.modules, "dagster_postgres", None)
    with pytest.raises(BadInput, match="not installed: dagster_postgres") as refused:
        open_instance(load_settings())
    assert refused.value.hint == "Install it: pip install 'aml-images-dagster[postgres]'"
    assert refused.value.where == str(tmp_path / "dagster.yaml")


def test_a_database_that_is_away_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    on_postgres(tmp_path, monkeypatch, **PLACE)
    monkeypatch.setattr("dagster_postgres.utils.time.sleep", lambda _: None)
    with pytest.raises(Unreachable, match=r"does not answer: .*Connection refused") as refused:
        open_instance(load_settings())
    assert "pass-word" not in str(refused.value) + caplog.text


def test_both_configurations_are_the_same_but_for_the_storage_and_the_sign_in() -> None:
    sqlite, postgres = (
        yaml.safe_load(CONFIGURATION.with_name(name).read_text()) for name in ("dagster.yaml", "dagster-postgres.yaml")
    )
    assert list(sqlite.pop("storage")) == ["custom"]
    assert list(postgres.pop("storage")) == ["postgres"]
    assert postgres.pop("run_coordinator")["config"] == sqlite.pop("run_queue")
    assert sqlite == postgres
