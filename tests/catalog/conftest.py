"""A real git repository with image folders, for the tests of the catalog."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.tree import CommitTree, Tree, WorkingTree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DOCKER_FILES = "base_images/docker/public"
PUBLISHED_AS = ("mcr.microsoft.com/azureml/{name}",)

_IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


class GitRepository:
    """A repository in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._commits = 0
        root.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        date = f"{1_700_000_000 + self._commits} +0000"
        environment = {**os.environ, **_IDENTITY, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    def write(self, path: str, content: str | bytes = "x\n", *, executable: bool = False) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(0o755 if executable else 0o644)

    def remove(self, path: str) -> None:
        self.git("rm", "-rqf", "--", path)

    def commit(self, message: str = "change") -> str:
        self._commits += 1  # else two commits of one second could be the same
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def image(self, image: str, dockerfile: str = "FROM debian:12\n", **files: str) -> str:
        """Write a complete image folder; names of further files have `__` for a dot. Returns the folder."""
        folder = f"{DOCKER_FILES}/{image}"
        self.write(f"{folder}/Dockerfile", dockerfile)
        self.write(f"{folder}/LICENSE.txt")
        self.write(f"{folder}/ThirdPartyNotices.txt")
        for name, content in files.items():
            self.write(f"{folder}/{name.replace('__', '.')}", content)
        return folder

    def tree(self, revision: str | None = None) -> Tree:
        return WorkingTree(self.root) if revision is None else CommitTree(self.root, git.resolve(self.root, revision))

    def catalog(self, revision: str | None = None, docker_files_path: str = DOCKER_FILES) -> Catalog:
        return Catalog.load(self.tree(revision), docker_files_path, PUBLISHED_AS)


@pytest.fixture(scope="session")
def new_git_repository(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], GitRepository]:
    """Makes repositories; for property tests, which need a new one for each example."""
    folder = tmp_path_factory.mktemp("repositories")
    return lambda: GitRepository(folder / uuid.uuid4().hex[:8])


@pytest.fixture
def killed_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Lets a command of git be killed after so many bytes of its output, as the kernel does when memory is short."""
    real, folder = shutil.which("git"), tmp_path / "killed-git"

    def kill(subcommand: str, after: int) -> None:
        folder.mkdir()
        script = f"""case " $* " in
*" {subcommand} "*) {real} "$@" | head -c {after}; kill -9 $$ ;;
*) exec {real} "$@" ;;
esac
"""
        (folder / "git").write_text(f"#!/bin/sh\n{script}")
        (folder / "git").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    return kill


@pytest.fixture
def git_repository(new_git_repository: Callable[[], GitRepository]) -> GitRepository:
    """An empty repository."""
    return new_git_repository()
