"""A new image folder is complete and valid, and never written over another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.layout import Layout
from aml_images_dagster.catalog.new_image import new_image
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from tests.catalog.conftest import GitRepository

ROOT = "base_images/docker/public"
PLAN = '{"scenarios": [{"name": "one", "kind": "training", "script": "train.py"}]}'


@pytest.fixture
def repository(git_repository: GitRepository) -> GitRepository:
    git_repository.write("base_images/tests/train.py")
    git_repository.image("base/parent", tests__json=PLAN, image__json='{"owners": ["team:images"]}')
    return git_repository


def create(repository: GitRepository, name: str, parent: str = "base/parent") -> str:
    catalog = repository.catalog()
    return new_image(name, catalog.get(parent), catalog, repository.tree()).path


@pytest.mark.parametrize("name", ["base/child", "framework/child"])
def test_it_is_complete_and_valid(repository: GitRepository, name: str) -> None:
    path = create(repository, name)
    assert path == f"{ROOT}/{name}"
    folder = repository.root / path
    assert sorted(file.name for file in folder.iterdir()) == [
        "Dockerfile",
        "Dockerfile.private",
        "LICENSE.txt",
        "ThirdPartyNotices.txt",
        "image.json",
        "tests.json",
    ]
    assert (folder / "Dockerfile").read_text() == "FROM mcr.microsoft.com/azureml/parent:latest\n"
    assert (folder / "tests.json").read_text() == PLAN
    assert json.loads((folder / "image.json").read_text())["owners"] == ["team:images"]
    catalog = repository.catalog()
    assert catalog.get(name).parents == ("base/parent",)
    assert validate(catalog, repository.tree()) == []


def test_a_windows_parent(repository: GitRepository) -> None:
    dockerfile = "FROM mcr.microsoft.com/windows/servercore:ltsc2022\n"
    repository.image("base-windows/parent2", dockerfile, tests__json=PLAN)
    path = create(repository, "base-windows/child", "base-windows/parent2")
    assert "COPY LICENSE.txt ThirdPartyNotices.txt C:/\n" in (repository.root / path / "Dockerfile.private").read_text()
    assert validate(repository.catalog(), repository.tree()) == []


def test_a_parent_without_tests_leaves_it_without(repository: GitRepository) -> None:
    repository.image("base/untested")
    path = create(repository, "base/child", "base/untested")
    assert not (repository.root / path / "tests.json").exists()
    assert [f.severity for f in validate(repository.catalog(), repository.tree(), ["base/child"])] == ["warning"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("child", "'child' has no family"),
        ("base/Child", "does not fit a registry"),
        ("base/a/b", "does not fit a registry"),
        ("../child", "does not fit a registry"),
        ("base/parent", "the folder is there already"),
        ("base/full", "the folder is there already"),
        ("framework/parent", "would be published or released, or its jobs named, like base/parent"),
    ],
)
def test_what_is_refused(repository: GitRepository, name: str, told: str) -> None:
    repository.write(f"{ROOT}/base/full/precious.txt", "mine")
    before = sorted(path for path in repository.root.rglob("*") if ".git" not in path.parts)
    with pytest.raises(BadInput, match=told):
        create(repository, name)
    assert sorted(path for path in repository.root.rglob("*") if ".git" not in path.parts) == before


def test_it_fits_the_layout_or_is_not_written(repository: GitRepository) -> None:
    tree = repository.tree()
    layout = Layout((ROOT,), (f"{ROOT}/{{family}}/{{name}}",), context="repository")
    catalog = Catalog.load(tree, ROOT, ["mcr.microsoft.com/azureml/{name}"], layout=layout)
    path = new_image("base/child", catalog.get("base/parent"), catalog, tree).path
    assert json.loads((repository.root / path / "image.json").read_text())["context"] == "folder"
    deep = Layout((ROOT,), (f"{ROOT}/{{family}}/{{name}} = x-{{family}}/{{name}}",))
    catalog = Catalog.load(tree, ROOT, ["mcr.microsoft.com/azureml/{name}"], layout=deep)
    with pytest.raises(BadInput, match="image-paths"):
        new_image("base/other", catalog.get("x-base/parent"), catalog, tree)
    assert not (repository.root / ROOT / "base/other").exists()


def test_a_variant_hands_on_its_own_tests(repository: GitRepository) -> None:
    repository.write(f"{ROOT}/base/parent/image.json", '{"variants": {"a": {"tests": "tests.a.json"}, "b": {}}}')
    repository.write(f"{ROOT}/base/parent/tests.a.json", PLAN.replace("one", "own"))
    path = create(repository, "base/child", "base/parent-a")
    assert '"own"' in (repository.root / path / "tests.json").read_text()
