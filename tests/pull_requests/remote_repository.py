"""A bare git remote with pull requests, and a clone of it that the factory works in."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class RemoteRepository:
    """A repository with pull requests.

    Attributes:
        factory: The clone that the factory works in.
        author: A clone in which people write pull requests.
        bare: The remote of both.
    """

    factory: ImageRepository
    author: ImageRepository
    bare: Path

    @classmethod
    def create(cls, root: Path, factory: ImageRepository) -> RemoteRepository:
        """Make a remote of what is there."""
        bare, writing = root / "remote.git", root / "author"
        _git("clone", "-q", "--bare", str(factory.root), str(bare))
        factory.git("remote", "add", "origin", str(bare))
        _git("clone", "-q", str(bare), str(writing))
        return cls(factory, ImageRepository(writing, factory.families), bare)

    def push(self, number: int, change: Callable[[ImageRepository], object], onto: str = "main") -> str:
        """Open a pull request with a change to the main branch, or push another one onto it."""
        author = self.author
        author.git("checkout", "-q", "-B", f"change-{number}", onto)
        change(author)
        author.git("add", "-A")
        author.git("commit", "-q", "--allow-empty", "-m", f"change of {number}")
        head = author.git("rev-parse", "HEAD")
        author.git("push", "-q", "-f", "origin", f"HEAD:{ref(number)}")
        return head

    def push_commit(self, number: int, commit: str) -> None:
        """Push a commit that there was before."""
        self.author.git("push", "-q", "-f", "origin", f"{commit}:{ref(number)}")

    def close(self, number: int) -> None:
        author = self.author
        author.git("push", "-q", "origin", f":{ref(number)}")

    def merge(self, head: str) -> None:
        self.author.git("push", "-q", "-f", "origin", f"{head}:refs/heads/main")


def ref(number: int) -> str:
    return f"refs/pull/{number}/head"


def edit_hello(repository: ImageRepository, text: str = "RUN echo changed\n") -> None:
    with (repository.folder("apps/hello") / "Dockerfile").open("a") as file:
        file.write(text)


def edit_shell(repository: ImageRepository, text: str = "good day\n") -> None:
    repository.write(repository.folder("tools/shell") / "greeting", text)


def edit_docs(repository: ImageRepository) -> None:
    repository.write(repository.root / "docs" / "read.md", f"{os.urandom(4).hex()}\n")


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)
