"""What is made to be hard to read ends the process that reads it, and nothing else."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.catalog.git import Killed
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.pull_requests import inspection
from aml_images_dagster.pull_requests.inspection import look_through
from aml_images_dagster.pull_requests.remote import GitRemote
from tests.pull_requests.remote_repository import edit_docs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aml_images_dagster.pull_requests.changes import Changes
    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository
    from tests.pull_requests.remote_repository import RemoteRepository

    Look = Callable[[str], Changes]

OTHER = "apps/other"


@pytest.fixture
def look(remote: RemoteRepository, pull_settings: Callable[..., Settings]) -> Look:
    """Looks at a commit of the author."""
    settings = pull_settings()

    def look(head: str, seconds: float = 60) -> Changes:
        source = GitRemote(settings.repo, settings.pull_requests, "refs/pull/*/head")
        assert source.fetch(1, head)
        return look_through(settings, source.heads().target, head, seconds)

    return look


def test_an_image_that_is_added(remote: RemoteRepository, look: Look) -> None:
    def change(repository: ImageRepository) -> None:
        repository.write_image(OTHER, "FROM scratch\nCOPY x /\n")
        repository.write(repository.folder(OTHER) / "x", "")
        repository.write(repository.folder(OTHER) / "image.json", '{"owners": ["team:us"], "eol": "2999-01-01"}')

    changes = look(remote.push(1, change))
    assert list(changes.reasons) == [OTHER]
    (image,) = changes.images
    assert (image.id, image.settings.owners, str(image.settings.eol)) == (OTHER, ("team:us",), "2999-01-01")
    assert look(remote.push(1, edit_docs)).reasons == {}


def test_a_fault_is_that_of_the_other_process(remote: RemoteRepository, look: Look) -> None:
    head = remote.push(1, lambda r: r.write(r.folder(OTHER) / "tests.json", "{"))
    with pytest.raises(BadInput, match=r"tests.json:1: error: not valid JSON") as told:
        look(head)
    assert told.value.hint == "`aml-images validate` shows all."


def test_a_tree_that_unfolds_to_billions_of_files(remote: RemoteRepository, look: Look) -> None:
    author = remote.author
    blob = author.git("rev-parse", "main:pyproject.toml")
    tree = made(remote, "".join(f"100644 blob {blob}\tf{n}\n" for n in range(10)))
    for _ in range(9):
        tree = made(remote, "".join(f"040000 tree {tree}\td{n}\n" for n in range(10)))
    head = author.git("commit-tree", tree, "-p", "main", "-m", "bomb")
    remote.push_commit(1, head)
    assert_refused(look, head, "GB of memory")


def made(remote: RemoteRepository, text: str) -> str:
    command = ["git", "-C", str(remote.author.root), "mktree"]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=True).stdout.strip()


def test_variables_that_double_with_every_line(remote: RemoteRepository, look: Look) -> None:
    doubled = "".join(f"ARG a{n}=$a{n - 1}$a{n - 1}\n" for n in range(1, 60))
    head = remote.push(1, lambda r: r.write_image(OTHER, f"ARG a0=0123456789\n{doubled}FROM $a59\n"))
    assert_refused(look, head, "GB of memory")


def test_a_pattern_that_is_tried_for_ever(remote: RemoteRepository, look: Look) -> None:
    def change(repository: ImageRepository) -> None:
        folder = repository.folder(OTHER)
        repository.write_image(OTHER, "FROM scratch\nCOPY a* /\n")
        repository.write(folder / ("a" * 200), "")
        repository.write(folder / ".dockerignore", "*a" * 30 + "b\n")

    assert_refused(look, remote.push(1, change), "s of CPU time")


def assert_refused(look: Look, head: str, because: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(BadInput, match=f"^its evaluation takes more than [0-9.]+ {because}"):
        look(head)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 50_000  # kilobytes
    assert after.ru_utime - before.ru_utime < 2


def test_the_time_is_over(remote: RemoteRepository, look: Callable[..., Changes]) -> None:
    head = remote.push(1, edit_docs)
    started = time.monotonic()
    with pytest.raises(Unreachable, match="not evaluated within 0 s"):
        look(head, 0.01)
    assert time.monotonic() - started < 40


@pytest.mark.parametrize("killed", ["the process", "its git"])
def test_short_memory_of_the_machine_is_no_fault_of_the_pull_request(
    look: Look, remote: RemoteRepository, killed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    head = remote.push(1, edit_docs)
    command = tmp_path / "git"
    command.write_text(f"#!/bin/sh\nkill -9 ${'PPID' if killed == 'the process' else '$'}\n")
    command.chmod(0o755)

    def popen(arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(arguments, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, **options)

    monkeypatch.setattr(inspection, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": popen}))
    with pytest.raises(Killed, match="killed") as told:
        look(head)
    assert told.value.where == ""  # a path of this machine is not published


def test_names_that_are_no_text(remote: RemoteRepository, look: Look) -> None:
    blob = remote.author.git("rev-parse", "main:pyproject.toml").encode()
    command = ["git", "-C", str(remote.author.root), "mktree"]

    def tree(entry: bytes) -> bytes:
        return subprocess.run(command, input=entry, capture_output=True, check=True).stdout.strip()

    folder = tree(b"100644 blob " + blob + b"\tDockerfile\n")
    family = tree(b"040000 tree " + folder + b"\th\xff\n")
    images = tree(b"040000 tree " + family + b"\tapps\n")
    top = tree(b"040000 tree " + images + b"\timages\n").decode()
    head = remote.author.git("commit-tree", top, "-p", "main", "-m", "no text")
    remote.push_commit(1, head)
    with pytest.raises(BadInput) as told:
        look(head)
    str(told.value).encode()


def test_a_defect_of_ours_is_one(look: Look, remote: RemoteRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "__name__", "aml_images_dagster.no_such_module")
    with pytest.raises(RuntimeError, match="No module named"):
        look(remote.push(1, edit_docs))
