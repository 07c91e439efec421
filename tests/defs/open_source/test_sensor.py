"""What was released is published, once, from the commit that it was built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.builds.ledger import Action, Ledger, TagChange
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.builds.versions.release_notes import PAGE
from aml_images_dagster.defs.open_source.public_source import publication_assets, publish_after_release_sensor
from aml_images_dagster.defs.run import FACTORY, Factory
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
from tests.image_repository import ImageRepository
from tests.records import begun_release

if TYPE_CHECKING:
    from pathlib import Path

CHANGES = tuple(
    TagChange(image=image, repository="public/x", tag=tag, before=None, after="sha256:1")
    for image in ("tools/shell", "apps/hello")
    for tag in ("20261123.v1", "latest")
)


@pytest.fixture
def factory(tmp_path: Path) -> Factory:
    repository = ImageRepository.create(tmp_path / "repository")
    with (repository.root / "pyproject.toml").open("a") as file:
        file.write("[tool.aml-images.open-source]\nafter-release = true\n")
        file.write('repository = "/public"\ndocs-repository = "/docs"\n')
    settings = load_settings(repo=repository.root)
    return Factory(settings, load_source(settings), backends_for(settings))


def do(factory: Factory, action: Action, commit: str = "c0ffee") -> None:
    ledger = Ledger(factory.backends.artifacts)
    begun = ledger.append(begun_release("20261123.aaaaaaaa", action=action, commit=commit, changes=CHANGES))
    ledger.complete(begun, "somebody")


def write_notes(factory: Factory) -> None:
    write_atomically(factory.backends.artifacts.build("20261123.aaaaaaaa").root / PAGE, b"notes")


def tick(factory: Factory, cursor: str | None) -> tuple[dict[str, object], str | None]:
    """What a tick asks for, configuration by operation, and the cursor after it."""
    (sensor,) = publish_after_release_sensor(factory)
    assets = publication_assets(factory.settings.open_source)
    loaded = dg.Definitions(assets=assets, sensors=[sensor], resources={FACTORY: factory})
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, cursor, sensor_name=sensor.name, definitions=loaded)
        result = sensor.evaluate_tick(context)
    asked = [request.run_config["ops"] for request in result.run_requests or ()]
    return {name: op["config"] for ops in asked for name, op in ops.items()}, result.cursor


def test_a_release_is_published_once(factory: Factory) -> None:
    do(factory, "release", "before anybody watched")
    asked, cursor = tick(factory, None)
    assert (asked, cursor) == ({}, "2")
    do(factory, "release")
    assert tick(factory, cursor) == ({}, "3"), "its notes are still being written"
    write_notes(factory)
    asked, cursor = tick(factory, cursor)
    assert asked == {
        "operations__public_source": {"source_commit": "c0ffee", "images": ["apps/hello", "tools/shell"]},
        "operations__public_docs": {},
    }
    assert tick(factory, cursor)[0] == {}


@pytest.mark.parametrize("action", ["rollback", "withdrawal"])
def test_a_change_of_tags_renews_documentation_table_and_notes(factory: Factory, action: Action) -> None:
    do(factory, action)
    assert tick(factory, "0")[0] == {"operations__public_docs": {}, "operations__public_source": {"only_tags": True}}


def test_a_commit_with_uncommitted_changes_is_not_asked_for(factory: Factory) -> None:
    do(factory, "release", "c0ffee-dirty")
    write_notes(factory)
    assert tick(factory, "0")[0]["operations__public_source"] == {
        "source_commit": "",
        "images": ["apps/hello", "tools/shell"],
    }


def test_it_is_there_only_when_it_is_wanted(tmp_path: Path) -> None:
    settings = load_settings(repo=ImageRepository.create(tmp_path / "plain").root)
    factory = Factory(settings, load_source(settings), backends_for(settings))
    assert publish_after_release_sensor(factory) == []
