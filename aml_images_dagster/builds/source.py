"""Where a build's files come from: the working tree, or a commit; and what changed in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.session import Source
from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.discovery import Discovery, discover
from aml_images_dagster.catalog.layout import Layout, split_paths
from aml_images_dagster.catalog.tree import CommitTree, Tree, WorkingTree

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.settings import Settings


def load_source(settings: Settings, commit: str = "", docker_files_path: str = "") -> Source:
    """Open the image folders.

    A working tree without changes is read as the commit that it is, so that a step that opens it later during a build
    gets the same files.

    Args:
        settings: Names the repository and how to read it.
        commit: A revision to read from git's objects; empty reads the working tree.
        docker_files_path: Folders with image folders, instead of the setting.

    Raises:
        BadInput: The revision or a folder does not exist.
    """
    repo = settings.repo
    versioned = git.is_repository(repo)
    commit = git.resolve(repo, commit) if commit else clean_commit(repo)
    tree: Tree = CommitTree(repo, commit) if commit else WorkingTree(repo)
    return Source(
        tree=tree,
        catalog=load_catalog(settings, tree, docker_files_path),
        commit=tree.commit or (git.describe(repo) if versioned else ""),
        url=(git.origin_url(repo) if versioned else "") or repo.as_uri(),
        committed=git.commit_time(repo, tree.commit or "HEAD") if versioned else None,
    )


def clean_commit(repo: Path) -> str:
    """The commit that a working tree equals, file by file; empty if it has changes, or is not in git.

    Files that git keeps through a filter, such as Git LFS, are something else in the commit than in the working tree.
    """
    if not git.is_repository(repo):
        return ""
    commit = git.describe(repo)
    return "" if commit.endswith(git.DIRTY) or not commit or git.has_filters(repo, commit) else commit


def load_catalog(settings: Settings, tree: Tree, docker_files_path: str = "") -> Catalog:
    """The images of a tree, read as the settings say.

    Raises:
        BadInput: A folder does not exist, or a setting of the layout is wrong.
    """
    paths = docker_files_path or settings.docker_files_path
    return Catalog.load(
        tree,
        paths,
        published_as=settings.published_as,
        released_as=tuple(filter(None, (settings.production_names, settings.release.public_names))),
        tests_path=settings.tests_path,
        layout=Layout(
            split_paths(paths),
            settings.image_paths,
            settings.dockerfile_names,
            settings.context,
            settings.template_tags,
        ),
    )


def source_tree(settings: Settings, head: str) -> Tree:
    """The tree of a commit, without one that of the setting `source_commit`, else the working tree."""
    head = head or settings.source_commit
    return CommitTree(settings.repo, git.resolve(settings.repo, head)) if head else WorkingTree(settings.repo)


def discover_images(settings: Settings, base: str, head: str, *, fallback: bool = True) -> Discovery:
    """What changed between two revisions; see `aml_images_dagster.catalog.discovery`.

    Args:
        settings: Names the repository and how to read it.
        base: A branch, tag or commit; empty for the main branch.
        head: A commit; empty for that of the setting `source_commit`, else the working tree.
        fallback: Select all images when no image changed.
    """
    tree = source_tree(settings, head)
    base = base or git.main_branch(settings.repo)
    return discover(tree, load_catalog(settings, tree), base, fallback=fallback)
