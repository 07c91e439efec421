"""Where files come from: a clean working tree is read as the commit that it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.source import clean_commit, load_source
from aml_images_dagster.catalog.tree import CommitTree, WorkingTree
from aml_images_dagster.settings import load_settings
from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageRepository:
    for name in os.environ:
        if name.startswith("AML_IMAGES_"):
            monkeypatch.delenv(name)
    return ImageRepository.create(tmp_path / "repository")


def test_a_clean_working_tree_is_its_commit(repository: ImageRepository) -> None:
    source = load_source(load_settings(repo=repository.root))
    greeting = str((repository.folder("tools/shell") / "greeting").relative_to(repository.root))
    assert isinstance(source.tree, CommitTree)
    assert source.commit == repository.git("rev-parse", "HEAD")
    (repository.root / greeting).write_text("changed meanwhile\n")
    assert source.tree.read(greeting) == b"hello\n"


@pytest.mark.parametrize("path", ["images/new/one/Dockerfile", "pyproject.toml"])
def test_a_working_tree_with_changes_is_read_as_it_is(repository: ImageRepository, path: str) -> None:
    repository.write(repository.root / path, "FROM busybox\n" if path.endswith("Dockerfile") else "\n")
    settings = load_settings(repo=repository.root, docker_files_path="images")
    source = load_source(settings)
    assert isinstance(source.tree, WorkingTree)
    assert source.commit == f"{repository.git('rev-parse', 'HEAD')}-dirty"


@pytest.mark.parametrize("place", ["", "images/"])
def test_files_that_git_keeps_through_a_filter_are_read_from_the_working_tree(
    repository: ImageRepository, place: str
) -> None:
    """In a commit they are pointers, or encrypted."""
    repository.write(repository.root / f"{place}.gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    repository.commit("large files")
    assert clean_commit(repository.root) == ""
    source = load_source(load_settings(repo=repository.root))
    assert isinstance(source.tree, WorkingTree)
    assert source.commit == repository.git("rev-parse", "HEAD")


def test_other_attributes_do_not_matter(repository: ImageRepository) -> None:
    repository.write(repository.root / ".gitattributes", "* -text\n*.sh eol=lf\n")
    assert clean_commit(repository.root) == ""
    repository.commit("attributes")
    assert clean_commit(repository.root) == repository.git("rev-parse", "HEAD")


def test_outside_of_git(tmp_path: Path) -> None:
    assert clean_commit(tmp_path) == ""
