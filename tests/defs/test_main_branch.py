"""What builds that start unattended are made of: the main branch of a bare remote, whatever the clone holds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs.main_branch import MainBranch
from aml_images_dagster.defs.run import Factory
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.pull_requests.remote import TARGET_REF
from tests.pull_requests.conftest import pull_settings, remote  # noqa: F401
from tests.pull_requests.remote_repository import edit_hello

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.settings import Settings
    from tests.pull_requests.remote_repository import RemoteRepository


@pytest.fixture
def main(pull_settings: Callable[..., Settings]) -> Callable[..., MainBranch]:  # noqa: F811
    def main(**values: object) -> MainBranch:
        settings = pull_settings(**values)
        return MainBranch(Factory(settings, load_source(settings), backends_for(settings)))

    return main


def test_what_the_remote_has_counts(remote: RemoteRepository, main: Callable[..., MainBranch]) -> None:  # noqa: F811
    branch = main()
    before = branch.images()
    assert before.commit == remote.author.git("rev-parse", "main")
    assert branch.images() is before  # read once
    head = remote.push(1, edit_hello)
    remote.merge(head)
    remote.factory.git("commit", "-q", "--allow-empty", "-m", "only here")
    images = branch.images()
    assert images.commit == head
    hello = images.source.catalog.get(remote.factory.image("apps/hello"))
    assert "RUN echo changed" in str(hello.dockerfile.text)
    assert remote.factory.git("status", "--porcelain") == ""


def test_another_branch(remote: RemoteRepository, main: Callable[..., MainBranch]) -> None:  # noqa: F811
    head = remote.push(1, edit_hello)
    remote.author.git("push", "-q", "origin", f"{head}:refs/heads/release/1")
    assert main(target_branch="release/1").images().commit == head
    with pytest.raises(BadInput, match="no refs/heads/missing"):
        main(target_branch="missing").images()


def test_without_a_remote_the_clone_counts(remote: RemoteRepository, main: Callable[..., MainBranch]) -> None:  # noqa: F811
    remote.factory.git("remote", "remove", "origin")
    remote.factory.git("checkout", "-q", "-b", "work")
    remote.factory.git("commit", "-q", "--allow-empty", "-m", "work")
    assert main().images().commit == remote.factory.git("rev-parse", "main")


def test_a_remote_that_is_away(remote: RemoteRepository, main: Callable[..., MainBranch]) -> None:  # noqa: F811
    branch = main()
    assert branch.known_images().commit == remote.factory.git("rev-parse", "main")
    head = remote.push(1, edit_hello)
    remote.merge(head)
    branch.images()
    remote.factory.git("config", "remote.origin.url", "http://127.0.0.1:9/away.git")
    with pytest.raises(Unreachable):
        branch.images()
    assert branch.known_images().commit == head


def test_a_remote_that_hangs_is_not_waited_for(remote: RemoteRepository, main: Callable[..., MainBranch]) -> None:  # noqa: F811
    slow = remote.bare.parent / "slow"
    slow.write_text(
        f'#!/bin/sh\n[ -e "{slow}.listed" ] && sleep 60\ntouch "{slow}.listed"\nexec git-upload-pack "$@"\n'
    )
    slow.chmod(0o755)
    remote.factory.git("config", "remote.origin.uploadpack", str(slow))
    remote.merge(remote.push(1, edit_hello))
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"did not finish within 0\.5 s"):
        main(max_fetch_seconds=0.5).images()
    assert time.monotonic() - started < 40


def test_somebody_else_fetches_at_the_same_time(
    remote: RemoteRepository,  # noqa: F811
    main: Callable[..., MainBranch],
) -> None:
    """A hook of git updates the ref between our look and our fetch, as another sensor would."""
    head = remote.push(1, edit_hello)
    remote.merge(head)
    hook = remote.factory.root / ".git" / "hooks" / "reference-transaction"
    hook.write_text(
        f'#!/bin/sh\n[ "$1" = prepared ] && grep -q {TARGET_REF} || exit 0\nrm "$0"\n'
        f"rm -f .git/{TARGET_REF}.lock; git update-ref {TARGET_REF} {head}; exit 1\n"
    )
    hook.chmod(0o755)
    assert main().images().commit == head
    assert not hook.exists()


def test_c20_broken_images_are_left_out_by_name(
    remote: RemoteRepository,  # noqa: F811
    main: Callable[..., MainBranch],
) -> None:
    branch = main()
    other = remote.author.folder("apps/other")

    def break_other(_: object) -> None:
        (other / "tests.json").write_text('{"timeout_minutes": ' + "9" * 5000 + "}")

    remote.merge(remote.push(1, break_other))
    images = branch.images()
    name = remote.factory.image("apps/other")
    assert images.broken.keys() == {name}
    (told,) = images.left_out
    assert told.startswith(f"{name} is left out: images/{name}/tests.json:1: error: ")
    assert remote.factory.image("apps/hello") in images.loaded
    assert name not in images.loaded
