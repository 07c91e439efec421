"""A public repository: which branch is read there, and how we sign in."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from aml_images_dagster.errors import BadInput
from aml_images_dagster.open_source.public_repository import Author, open_public_repository

if TYPE_CHECKING:
    from pathlib import Path

AUTHOR = Author("Factory", "factory@example.com")
BRANCH = "aml-images/sync"


@pytest.fixture
def public(tmp_path: Path) -> Path:
    root = tmp_path / "public"
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    (root / "README.md").write_text("images\n")
    subprocess.run(["git", "-C", str(root), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(root), *who, "commit", "-q", "-m", "begin"], check=True)
    return root


def test_another_ref_that_ends_like_our_branch_is_not_our_branch(public: Path) -> None:
    subprocess.run(["git", "-C", str(public), "update-ref", f"refs/a/refs/heads/{BRANCH}", "HEAD"], check=True)
    with open_public_repository(str(public), "main", AUTHOR) as repository:
        repository.continue_from(BRANCH)
        repository.write("new", b"text\n")
        repository.changes()
        commit, pushed = repository.propose(BRANCH, "Update", "")
        assert pushed
    tip = subprocess.run(["git", "-C", str(public), "rev-parse", BRANCH], check=True, capture_output=True, text=True)
    assert tip.stdout.strip() == commit


def test_a_message_may_be_longer_than_an_argument(public: Path) -> None:
    body = "\n".join(f"- family/image-{number}" for number in range(10_000))
    with open_public_repository(str(public), "main", AUTHOR) as repository:
        repository.write("new", b"text\n")
        repository.changes()
        repository.propose(BRANCH, "Update", body)
    message = ["git", "-C", str(public), "log", "-1", "--format=%B", BRANCH]
    assert subprocess.run(message, check=True, capture_output=True, text=True).stdout.strip() == f"Update\n\n{body}"


@pytest.mark.parametrize("path", ["link", "link/file"])
def test_a_link_in_the_public_repository_is_not_followed(public: Path, tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (public / "link").symlink_to(outside)
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", str(public), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(public), *who, "commit", "-q", "-m", "a link"], check=True)
    with open_public_repository(str(public), "main", AUTHOR) as repository:
        with pytest.raises(BadInput, match="something else there"):
            repository.write(path, b"text")
        assert repository.read("link") is None
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("inherited", [0, 2])
def test_the_token_is_added_to_the_configuration_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: int
) -> None:
    seen = tmp_path / "seen"
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(f"#!/bin/sh\n'{shutil.which('git')}' config --list >'{seen}'\nexit 1\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}{os.pathsep}{os.environ['PATH']}")
    if inherited:
        monkeypatch.setenv("GIT_CONFIG_COUNT", str(inherited))
    for number in range(inherited):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", "safe.directory")
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", f"/clone/{number}")
    public = open_public_repository("https://127.0.0.1:9/a.git", "main", AUTHOR, SecretStr("t0ken"))
    with pytest.raises(BadInput), public:
        pass
    known = seen.read_text().splitlines()
    assert [line for line in known if "/clone/" in line] == [f"safe.directory=/clone/{n}" for n in range(inherited)]
    assert any(line.startswith("http.https://127.0.0.1:9/.extraheader=Authorization: Basic ") for line in known)
