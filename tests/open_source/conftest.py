"""A public repository: a bare git repository on disk, as remote."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.open_source.image_table import BEGIN, END

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image_repository import ImageRepository

_WHO = {f"GIT_{role}_{what}": f"person@b.{what}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@dataclass(frozen=True)
class BareRepository:
    """A bare repository.

    Attributes:
        root: Its folder.
    """

    root: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | _WHO).stdout.strip()

    def files(self, revision: str) -> list[str]:
        return self.git("ls-tree", "-r", "--name-only", revision).splitlines()

    def read(self, revision: str, path: str) -> str:
        return self.git("show", f"{revision}:{path}")

    def commit_on(self, branch: str, path: str, content: str, message: str = "by a person") -> str:
        """A commit that a person makes, on top of a branch."""
        work = self.root.parent / f"work-{branch.replace('/', '-')}-{message.replace(' ', '-')}"
        subprocess.run(["git", "clone", "-q", "-b", branch, str(self.root), str(work)], check=True)
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(content)
        for arguments in (["add", "-A"], ["commit", "-q", "-m", message], ["push", "-q", "origin", branch]):
            subprocess.run(["git", "-C", str(work), *arguments], check=True, env=os.environ | _WHO)
        return self.git("rev-parse", branch)


@pytest.fixture
def public(tmp_path: Path, image_repository: ImageRepository) -> BareRepository:
    """The public repository of `image_repository`, with a README that has a place for the table."""
    root = tmp_path / "public.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(root)], check=True)
    work = tmp_path / "public"
    subprocess.run(["git", "init", "-q", "-b", "main", str(work)], check=True)
    (work / "README.md").write_text(f"# Images\n\n{BEGIN}\n{END}\n\nWritten by people.\n")
    for arguments in (["add", "-A"], ["commit", "-q", "-m", "begin"], ["push", "-q", str(root), "main"]):
        subprocess.run(["git", "-C", str(work), *arguments], check=True, env=os.environ | _WHO)
    with (image_repository.root / "pyproject.toml").open("a") as file:
        file.write(f'\n[tool.aml-images.open-source]\nrepository = "{root}"\n')
        file.write("""internal-names = ['\\bvault-\\d+\\b']\n""")
    return BareRepository(root)
