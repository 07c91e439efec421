"""Heads of pull requests on a bare remote, and fetching them within limits."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.pull_requests.remote import TARGET_REF, GitRemote, own_ref
from tests.pull_requests.remote_repository import RemoteRepository, edit_docs, ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.settings import Settings

HEADS = "refs/pull/*/head"


def git_remote(settings: Settings) -> GitRemote:
    return GitRemote(settings.repo, settings.pull_requests, HEADS)


def test_heads(remote: RemoteRepository, pull_settings: Callable[..., Settings]) -> None:
    one, eleven = (remote.push(number, edit_docs) for number in (1, 11))
    remote.author.git("push", "-q", "origin", "HEAD:refs/pull/x/head", "HEAD:refs/pull/3/merge", "HEAD:refs/heads/b")
    heads = git_remote(pull_settings()).heads()
    assert dict(heads.pull_requests) == {1: one, 11: eleven}
    assert heads.target == remote.author.git("rev-parse", "main")
    remote.close(1)
    assert list(git_remote(pull_settings()).heads().pull_requests) == [11]


def test_merge_refs_and_another_branch(remote: RemoteRepository, pull_settings: Callable[..., Settings]) -> None:
    head = remote.push(1, edit_docs)
    remote.author.git("push", "-q", "origin", f"{head}:refs/pull/7/merge", f"{head}:refs/heads/release/1")
    settings = pull_settings(target_branch="release/1")
    heads = GitRemote(settings.repo, settings.pull_requests, "refs/pull/*/merge").heads()
    assert (dict(heads.pull_requests), heads.target) == ({7: head}, head)
    with pytest.raises(BadInput, match="no refs/heads/missing"):
        git_remote(pull_settings(target_branch="missing")).heads()


def test_fetch_and_forget(remote: RemoteRepository, pull_settings: Callable[..., Settings]) -> None:
    head = remote.push(4, edit_docs)
    source = git_remote(pull_settings())
    assert source.fetch(4, head)
    assert remote.factory.git("rev-parse", own_ref(4)) == head
    assert remote.factory.git("status", "--porcelain") == ""
    newer = remote.push(4, edit_docs)
    assert not source.fetch(4, "0" * 40)  # it has moved on since it was seen
    assert source.fetch(4, newer)
    source.forget(4)
    source.forget(4)
    assert remote.factory.git("for-each-ref", "refs/aml-images") == ""
    source.fetch_target(source.heads().target)
    assert remote.factory.git("rev-parse", TARGET_REF) == remote.factory.git("rev-parse", "main")


@pytest.mark.parametrize("value", ["/nowhere", "https://127.0.0.1:9/x.git", "--upload-pack=touch /tmp/owned"])
def test_a_remote_that_is_not_there(pull_settings: Callable[..., Settings], value: str) -> None:
    with pytest.raises((BadInput, Unreachable)):
        git_remote(pull_settings(remote=value)).heads()


def test_credentials_of_the_url_are_never_told(pull_settings: Callable[..., Settings]) -> None:
    with pytest.raises(Unreachable) as told:
        git_remote(pull_settings(remote="https://user:s3cret@127.0.0.1:9/x.git")).heads()
    assert "s3cret" not in str(told.value)


def test_a_fetch_over_the_limit_leaves_nothing(
    remote: RemoteRepository, pull_settings: Callable[..., Settings]
) -> None:
    head = remote.push(1, lambda r: (r.root / "large").write_bytes(os.urandom(3_000_000)))
    with pytest.raises(BadInput, match="more than 1 MB would have to be fetched"):
        git_remote(pull_settings(max_fetch_mb=1)).fetch(1, head)
    assert list((remote.factory.root / ".git" / "objects" / "pack").glob("tmp_*")) == []
    assert git_remote(pull_settings(max_fetch_mb=10)).fetch(1, head)


def test_a_fetch_that_takes_too_long_is_ended(
    remote: RemoteRepository, pull_settings: Callable[..., Settings], tmp_path: object
) -> None:
    slow = remote.bare.parent / "slow"
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o755)
    remote.factory.git("config", "remote.origin.uploadpack", str(slow))
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"did not finish within 0\.5 s"):
        git_remote(pull_settings(max_fetch_seconds=0.5)).fetch(1, "0" * 40)
    assert time.monotonic() - started < 40


@pytest.mark.parametrize("name", ["..", ".git", ".", "a/b"])
def test_objects_that_no_honest_git_writes_are_refused(
    remote: RemoteRepository, pull_settings: Callable[..., Settings], name: str
) -> None:
    author = remote.author
    blob = author.git("hash-object", "-w", "README.md") if (author.root / "README.md").exists() else None
    blob = blob or author.git("rev-parse", "main:pyproject.toml")
    tree = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
    made = subprocess.run(
        ["git", "-C", str(author.root), "hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
        input=tree,
        capture_output=True,
        check=True,
    )
    head = author.git("commit-tree", made.stdout.decode().strip(), "-p", "main", "-m", "evil")
    author.git("push", "-q", "origin", f"{head}:{ref(1)}")
    with pytest.raises(BadInput, match="git refuses an object of it"):
        git_remote(pull_settings()).fetch(1, head)
