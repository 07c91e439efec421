"""Heads of pull requests on a bare remote, and fetching them within limits."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.pull_requests import remote as remote_module
from aml_images_dagster.pull_requests.quarantine import Quarantine
from aml_images_dagster.pull_requests.remote import TARGET_REF, GitRemote, own_ref
from tests.pull_requests.remote_repository import RemoteRepository, edit_docs, ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository

HEADS = "refs/pull/*/head"


def fetch_folders(remote: RemoteRepository) -> list[str]:
    objects = remote.factory.root / ".git" / "objects"
    return [path.name for path in objects.iterdir() if "fetch" in path.name or path.name.startswith("tmp_")]


_SLOW_UPLOAD_PACK = """\
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(__file__).parent
sent = 0
with subprocess.Popen(["git-upload-pack", *sys.argv[1:]], stdout=subprocess.PIPE) as process:
    while chunk := os.read(process.stdout.fileno(), 65536):
        sent += os.write(1, chunk)
        if sent > 1_000_000 and not (folder / "sent").exists():
            (folder / "sent").touch()
            until = time.monotonic() + 60
            while not (folder / "go").exists() and time.monotonic() < until:
                time.sleep(0.05)
"""


class SlowRemote:
    """A second name for the remote, which sends 1 MB and then waits to be let go on."""

    def __init__(self, remote: RemoteRepository) -> None:
        folder = remote.bare.parent
        self.go, self.sent = folder / "go", folder / "sent"
        script = folder / "slow-upload-pack.py"
        script.write_text(_SLOW_UPLOAD_PACK)
        remote.factory.git("config", "remote.slow.url", str(remote.bare))
        remote.factory.git("config", "remote.slow.uploadpack", f"'{sys.executable}' '{script}'")

    def wait_until_sent(self) -> None:
        until = time.monotonic() + 60
        while not self.sent.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert self.sent.exists()


def add_large_file(repository: ImageRepository) -> None:
    repository.write(repository.root / "large", os.urandom(1_500_000).hex())


def git_remote(settings: Settings) -> GitRemote:
    return GitRemote(settings.repo, settings.pull_requests, HEADS)


def test_heads(remote: RemoteRepository, pull_settings: Callable[..., Settings]) -> None:
    one, eleven = (remote.push(number, edit_docs) for number in (1, 11))
    remote.author.git("push", "-q", "origin", "HEAD:refs/pull/x/head", "HEAD:refs/pull/3/merge", "HEAD:refs/heads/b")
    remote.author.git("push", "-q", "origin", f"{eleven}:refs/pull/001/head", f"{eleven}:refs/pull/0/head")
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
    assert fetch_folders(remote) == []
    assert remote.factory.git("count-objects", "-v").count("size-pack: 0") == 1
    assert git_remote(pull_settings(max_fetch_mb=10)).fetch(1, head)
    assert fetch_folders(remote) == []
    assert remote.factory.git("fsck", "--strict") == ""


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


def failing_fetch(settings: Callable[..., Settings], head: str) -> None:
    with pytest.raises(BadInput, match="more than 1 MB"):
        git_remote(settings(max_fetch_mb=1)).fetch(2, head)
    with pytest.raises(BadInput, match="no such remote"):
        git_remote(settings(remote="nowhere")).fetch(2, head)


def test_a_fetch_that_fails_takes_nothing_from_the_others(
    remote: RemoteRepository, pull_settings: Callable[..., Settings]
) -> None:
    slow, head, large = SlowRemote(remote), remote.push(1, add_large_file), remote.push(2, add_large_file)
    with ThreadPoolExecutor() as threads:
        fetch = threads.submit(git_remote(pull_settings(remote="slow")).fetch, 1, head)
        try:
            slow.wait_until_sent()
            failing_fetch(pull_settings, large)
        finally:
            slow.go.touch()
        assert fetch.result(60)
    assert remote.factory.git("fsck", "--strict") == ""
    assert fetch_folders(remote) == []


def test_a_fetch_that_fails_takes_nothing_from_the_target_branch(
    remote: RemoteRepository, pull_settings: Callable[..., Settings]
) -> None:
    slow, large = SlowRemote(remote), remote.push(2, add_large_file)
    merged = remote.push(1, add_large_file)
    remote.merge(merged)
    with ThreadPoolExecutor() as threads:
        update = threads.submit(git_remote(pull_settings(remote="slow", target_branch="main")).update_target)
        try:
            slow.wait_until_sent()
            failing_fetch(pull_settings, large)
        finally:
            slow.go.touch()
        assert update.result(60) == merged
    assert remote.factory.git("rev-parse", TARGET_REF) == merged


def test_a_fetch_that_fails_takes_nothing_from_the_git_of_a_person(
    remote: RemoteRepository, pull_settings: Callable[..., Settings]
) -> None:
    slow, head, large = SlowRemote(remote), remote.push(1, add_large_file), remote.push(2, add_large_file)
    command = ["git", "-C", str(remote.factory.root), "-c", "fetch.unpackLimit=1", "fetch", "-q", "slow", ref(1)]
    with subprocess.Popen(command) as person:
        try:
            slow.wait_until_sent()
            failing_fetch(pull_settings, large)
        finally:
            slow.go.touch()
        assert person.wait(60) == 0
    assert remote.factory.git("rev-parse", "FETCH_HEAD") == head


def test_two_fetches_of_the_same_pull_request_at_once(
    remote: RemoteRepository, pull_settings: Callable[..., Settings]
) -> None:
    slow, head = SlowRemote(remote), remote.push(1, add_large_file)
    with ThreadPoolExecutor() as threads:
        fetch = threads.submit(git_remote(pull_settings(remote="slow")).fetch, 1, head)
        try:
            slow.wait_until_sent()
            assert git_remote(pull_settings()).fetch(1, head)
        finally:
            slow.go.touch()
        assert fetch.result(60)
    assert remote.factory.git("fsck", "--strict") == ""
    assert remote.factory.git("rev-parse", own_ref(1)) == head


def test_no_ref_of_the_clone_changes_before_its_objects_are_there(
    remote: RemoteRepository, pull_settings: Callable[..., Settings]
) -> None:
    slow, merged = SlowRemote(remote), remote.push(1, add_large_file)
    remote.factory.git("config", "remote.slow.fetch", "+refs/heads/*:refs/remotes/slow/*")
    remote.merge(merged)
    before = remote.factory.git("for-each-ref")
    with ThreadPoolExecutor() as threads:
        update = threads.submit(git_remote(pull_settings(remote="slow", target_branch="main")).update_target)
        try:
            slow.wait_until_sent()
            assert remote.factory.git("for-each-ref") == before
        finally:
            slow.go.touch()
        update.result(60)
    assert remote.factory.git("for-each-ref").splitlines() == [f"{merged} commit\t{TARGET_REF}", *before.splitlines()]


def test_what_a_killed_fetch_leaves_is_removed_by_the_next(
    remote: RemoteRepository, pull_settings: Callable[..., Settings]
) -> None:
    slow, head = SlowRemote(remote), remote.push(1, add_large_file)
    code = f"""
from pathlib import Path
from aml_images_dagster.pull_requests import remote as remote_module
from aml_images_dagster.pull_requests.quarantine import Quarantine
from aml_images_dagster.pull_requests.remote import GitRemote
from aml_images_dagster.settings import load_settings
settings = load_settings(repo=Path({str(remote.factory.root)!r}), pull_requests={{"remote": "slow"}})
GitRemote(settings.repo, settings.pull_requests, "{HEADS}").fetch(1, "{head}")
"""
    with subprocess.Popen([sys.executable, "-c", code]) as killed:
        slow.wait_until_sent()
        killed.kill()
    # Its git goes on without it, and so does its fetch as others see it.
    (left,) = fetch_folders(remote)
    other = git_remote(pull_settings())
    assert other.fetch(2, remote.push(2, edit_docs))
    assert fetch_folders(remote) == [left]
    slow.go.touch()
    until = time.monotonic() + 60
    while fetch_folders(remote) and time.monotonic() < until:
        assert other.fetch(3, remote.push(3, edit_docs))
    assert fetch_folders(remote) == []
    assert other.fetch(1, head)


def test_a_leftover_without_a_lock_is_removed(remote: RemoteRepository, pull_settings: Callable[..., Settings]) -> None:
    (remote.factory.root / ".git" / "objects" / "aml-images-fetch-half" / "objects").mkdir(parents=True)
    assert git_remote(pull_settings()).fetch(1, remote.push(1, edit_docs))
    assert fetch_folders(remote) == []


def test_a_ref_that_another_git_writes_is_fetched_later(
    remote: RemoteRepository, pull_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "_LOCK_MILLISECONDS", 0)
    head = remote.push(1, edit_docs)
    lock = remote.factory.root / ".git" / f"{own_ref(1)}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with pytest.raises(Unreachable, match="git does not write refs/aml-images/pull/1"):
        git_remote(pull_settings()).fetch(1, head)
    lock.unlink()
    assert git_remote(pull_settings()).fetch(1, head)


def test_a_clone_on_a_full_disk_is_fetched_into_later(
    remote: RemoteRepository, pull_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Quarantine) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Quarantine, "migrate", full)
    with pytest.raises(Unreachable, match="cannot be written: No space left"):
        git_remote(pull_settings()).fetch(1, remote.push(1, edit_docs))
    assert fetch_folders(remote) == []


def test_a_file_system_without_locks_is_fetched_into(
    remote: RemoteRepository, pull_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert git_remote(pull_settings()).fetch(1, remote.push(1, edit_docs))
    assert fetch_folders(remote) == []


def test_a_bare_clone_and_one_from_a_linked_working_tree(
    remote: RemoteRepository, pull_settings: Callable[..., Settings]
) -> None:
    head = remote.push(1, add_large_file)
    bare, linked = remote.bare.parent / "bare.git", remote.bare.parent / "linked"
    subprocess.run(["git", "clone", "-q", "--bare", str(remote.bare), str(bare)], check=True)
    remote.factory.git("worktree", "add", "-q", "--detach", str(linked))
    for root in (bare, linked):
        assert GitRemote(root, pull_settings().pull_requests, HEADS).fetch(1, head)
        done = subprocess.run(["git", "-C", str(root), "fsck"], check=True, capture_output=True)
        assert b"missing" not in done.stdout + done.stderr
    assert remote.factory.git("rev-parse", own_ref(1)) == head
    assert fetch_folders(remote) == []
