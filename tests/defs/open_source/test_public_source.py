"""Publishing from the UI: the assets are there when they are configured, and say what happened."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from markdown_it import MarkdownIt

from aml_images_dagster.builds.source import load_source
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.defs.keys import PUBLIC_DOCS, PUBLIC_SOURCE
from aml_images_dagster.defs.open_source.public_source import publication_assets
from aml_images_dagster.defs.run import FACTORY, Factory
from aml_images_dagster.open_source.image_table import BEGIN, END
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine


def publish(
    repository: ImageRepository, key: dg.AssetKey = PUBLIC_SOURCE, **options: object
) -> dg.ExecuteInProcessResult:
    settings = load_settings(repo=repository.root)
    assets = publication_assets(settings.open_source)
    assert [asset.key for asset in assets] == [key]
    config = {"ops": {key.to_python_identifier(): {"config": options}}}
    resources = {FACTORY: Factory(settings, load_source(settings), backends_for(settings))}
    return dg.materialize(assets, run_config=config, resources=resources, raise_on_error=False)


@pytest.fixture
def public(image_repository: ImageRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith("AML_IMAGES_"):
            monkeypatch.delenv(name)
    root = tmp_path / "public"
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    (root / "README.md").write_text(f"{BEGIN}\n{END}\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", str(root), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(root), *who, "commit", "-q", "-m", "begin"], check=True)
    with (image_repository.root / "pyproject.toml").open("a") as file:
        file.write(f'\n[tool.aml-images.open-source]\nrepository = "{root}"\n')
    return root


def test_nothing_is_shown_before_it_is_configured(image_repository: ImageRepository) -> None:
    settings = load_settings(repo=image_repository.root)
    assert publication_assets(settings.open_source) == []


def test_a_materialization_shows_what_was_proposed(image_repository: ImageRepository, public: Path) -> None:
    other = image_repository.image("apps/other")
    result = publish(image_repository, images=[other])
    assert result.success
    (event,) = result.asset_materializations_for_node(PUBLIC_SOURCE.to_python_identifier())
    assert event.metadata["outcome"].value == "proposed"
    assert "+COPY python /bin/python" in str(event.metadata["diff"].value)
    tip = subprocess.run(
        ["git", "-C", str(public), "rev-parse", "aml-images/sync"], check=True, capture_output=True, text=True
    )
    assert event.metadata["commit"].value == tip.stdout.strip()


def test_a_dry_run_is_not_shown_as_a_publication(image_repository: ImageRepository, public: Path) -> None:
    result = publish(image_repository, images=[image_repository.image("apps/other")], dry_run=True)
    assert result.success
    assert result.get_asset_materialization_events() == []
    (event,) = result.get_asset_observation_events()
    observation = event.asset_observation_data.asset_observation
    assert observation.asset_key == PUBLIC_SOURCE
    assert "+COPY python /bin/python" in str(observation.metadata["diff"].value)


def test_a_leak_fails_the_run_and_says_where(image_repository: ImageRepository, public: Path) -> None:
    image_repository.write(image_repository.folder("tools/shell") / "greeting", "see wiki.contoso.corp\n")
    result = publish(image_repository, dry_run=True)
    assert not result.success
    failure = result.failure_data_for_node(PUBLIC_SOURCE.to_python_identifier())
    assert failure is not None
    assert failure.user_failure_data is not None
    assert "/shell/greeting:1: the internal name 'wiki.contoso.corp'" in str(failure.user_failure_data.description)


def test_documentation_is_proposed_in_the_same_way(
    image_repository: ImageRepository,
    public: Path,
    staging: OciRegistry,
    production: OciRegistry,
    busybox: Reference,
) -> None:
    pyproject = image_repository.root / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("\nrepository = ", "\ndocs-repository = "))
    image = image_repository.image("tools/shell")
    repository = f"public{image_repository.families['tools'].removeprefix('tools')}/shell"
    copy_image(staging, production, busybox, repository)
    for tag in ("20261123.v1", "latest"):
        production.tag(Reference(production.host, repository, digest=busybox.digest), tag)
    result = publish(image_repository, PUBLIC_DOCS, images=[image])
    assert result.success
    (event,) = result.asset_materializations_for_node(PUBLIC_DOCS.to_python_identifier())
    assert event.metadata["outcome"].value == "proposed"
    assert "+# shell" in str(event.metadata["diff"].value)
    assert not publish(image_repository, PUBLIC_DOCS, images=[image_repository.image("apps/other")]).success


def test_a_diff_with_a_fence_in_it_stands_in_one_block(image_repository: ImageRepository, public: Path) -> None:
    other = image_repository.image("apps/other")
    (public / "README.md").write_text(f"{BEGIN}\n{END}\n```\n[click](http://evil) ![](http://evil/x.png)\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", str(public), *who, "commit", "-q", "-a", "-m", "a fence"], check=True)
    result = publish(image_repository, images=[other])
    (event,) = result.asset_materializations_for_node(PUBLIC_SOURCE.to_python_identifier())
    tokens = MarkdownIt().parse(str(event.metadata["diff"].value))
    assert [token.type for token in tokens] == ["fence"]
