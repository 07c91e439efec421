"""The git remote that pull requests are on: their heads, and fetching them within limits.

Hosts show pull requests as refs: GitHub `refs/pull/<n>/head`, Azure Repos `refs/pull/<n>/merge`. So any git remote will
do, a folder on this disk too. What is fetched goes to refs of our own, `refs/aml-images/…`; nothing is checked out.

Sources:
    https://docs.github.com/pull-requests/collaborating-with-pull-requests/reviewing-changes-in-pull-requests/checking-out-pull-requests-locally
    https://learn.microsoft.com/azure/devops/repos/git/pull-requests
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from aml_images_dagster.catalog import git
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.pull_requests.hosts import host_address
from aml_images_dagster.pull_requests.quarantine import quarantine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aml_images_dagster.pull_requests.quarantine import Quarantine
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.settings.pull_requests import PullRequestSettings

TARGET_REF = "refs/aml-images/target"
"""Where the target branch is kept, as it was fetched last."""

_LIST_SECONDS = 30
_UPDATE_SECONDS = 45
"""Both requests of an update together: a schedule has to know soon enough, before Dagster ends its tick after 60 s."""
_SHORTEST_SECONDS = 1
_LOCK_MILLISECONDS = 5000
"""How long a ref that another git writes is waited for."""
_BLOCK_BYTES = 512  # the unit of `ulimit -f`, by POSIX
_LIMITED = 'ulimit -f {blocks}; exec "$0" "$@"'

# Objects that no honest git writes are refused on arrival. Source: https://git-scm.com/docs/git-fsck#_fsck_messages
_STRICT = ("hasDot", "hasDotdot", "hasDotgit", "fullPathname", "emptyName")


@dataclass(frozen=True, slots=True)
class Heads:
    """What a remote shows.

    Attributes:
        target: Commit of the branch that pull requests go to.
        pull_requests: Commit of every open pull request, by its number.
    """

    target: str
    pull_requests: Mapping[int, str]


def open_remote(settings: Settings) -> GitRemote:
    """The remote whose pull requests are built.

    Raises:
        BadInput: The refs of its pull requests cannot be derived from the settings.
    """
    return GitRemote(settings.repo, settings.pull_requests, settings.pull_requests.refs or host_address(settings).refs)


class GitRemote:
    """A remote of a clone.

    Args:
        root: The clone, bare or not, that the objects go to.
        settings: Which remote, which refs, and the limits.
        refs: Refs that are heads of pull requests, the number in place of `*`; needed for these only.
    """

    def __init__(self, root: Path, settings: PullRequestSettings, refs: str = "") -> None:
        self._root = root
        self._settings = settings
        self._refs = refs
        branch = settings.target_branch
        self._target = f"refs/heads/{branch}" if branch else "HEAD"

    def heads(self) -> Heads:
        """What the remote shows now: one request.

        Raises:
            BadInput: There is no such remote or branch.
            Unreachable: It does not answer.
        """
        shown = self._list(self._refs)
        number = re.compile(re.escape(self._refs).replace(r"\*", "([1-9][0-9]{0,8})"))
        found = {int(match.group(1)): commit for ref, commit in shown.items() if (match := number.fullmatch(ref))}
        return Heads(shown[self._target], dict(sorted(found.items())))

    def update_target(self) -> str:
        """Bring the target branch into the clone as it is at the remote now; its commit.

        Raises:
            BadInput: There is no such remote or branch, or it is too large.
            Unreachable: The remote does not answer, or a limit was reached.
        """
        started = time.monotonic()
        commit = self._list()[self._target]
        left = _UPDATE_SECONDS - (time.monotonic() - started)
        try:
            self.fetch_target(commit, left)
        except Unreachable:
            if not self._is_here(TARGET_REF, commit):  # else another process has fetched it at the same time
                raise
        return git.resolve(self._root, TARGET_REF)

    def fetch_target(self, commit: str, seconds: float = inf) -> None:
        """Bring the target branch into the clone, unless it is there.

        Args:
            commit: What it is at the remote.
            seconds: How long that may take, at most as long as the settings say.

        Raises:
            Unreachable: The remote does not answer, or a limit was reached.
        """
        if not self._is_here(TARGET_REF, commit):
            self._fetch(self._target, TARGET_REF, seconds)

    def fetch(self, number: int, head: str, seconds: float = inf) -> bool:
        """Bring a pull request into the clone; whether its head is still the one that was seen.

        Args:
            number: The pull request.
            head: Its head, as it was seen.
            seconds: How long that may take, at most as long as the settings say.

        Raises:
            BadInput: It is too large, or has objects that git does not accept.
            Unreachable: The remote does not answer.
        """
        ref = own_ref(number)
        if not self._is_here(ref, head):
            self._fetch(self._refs.replace("*", str(number)), ref, seconds)
        return self._is_here(ref, head)

    def forget(self, number: int) -> None:
        """Delete the ref of a pull request; git removes its objects later."""
        git.run(self._root, "update-ref", "-d", own_ref(number))

    def _list(self, *refs: str) -> dict[str, str]:
        """The target branch and other refs, each with its commit."""
        listed = self._git("ls-remote", "--", self._settings.remote, self._target, *refs, seconds=_LIST_SECONDS)
        lines = (line.partition("\t") for line in listed.decode("utf-8", "replace").splitlines())
        shown = {ref: commit for commit, _, ref in lines}
        if self._target not in shown:
            raise BadInput(
                f"the remote has no {self._target}",
                where=git.without_credentials(self._settings.remote),
                hint="Name the branch with pull_requests.target_branch.",
            )
        return shown

    def _is_here(self, ref: str, commit: str) -> bool:
        with suppress(BadInput):
            return git.resolve(self._root, ref) == commit
        return False

    def _fetch(self, theirs: str, ours: str, seconds: float) -> None:
        """Bring a ref of the remote into the clone, as a ref of ours: first the objects, then the ref."""
        strict = [word for name in _STRICT for word in ("-c", f"fetch.fsck.{name}=error")]
        # unpackLimit: always one pack, so that the limit of a file is the limit of a fetch.
        configuration = ["-c", "fetch.fsckObjects=true", "-c", "fetch.unpackLimit=1", "-c", "gc.auto=0", *strict]
        # refmap: no ref of the configuration is written by the way.
        options = ["--quiet", "--no-tags", "--refmap=", "--no-recurse-submodules", "--no-auto-maintenance"]
        seconds = min(max(seconds, _SHORTEST_SECONDS), self._settings.max_fetch_seconds)
        command = [*configuration, "fetch", *options, "--", self._settings.remote, theirs]
        try:
            with quarantine(self._root) as fetch:
                self._git(*command, seconds=seconds, fetch=fetch)
                if fetch.size_bytes > self._max_bytes:
                    raise self._too_large()
                fetch.migrate()
                commit = fetch.fetched
        except OSError as error:
            raise _not_written(error.strerror or str(error)) from None
        try:
            git.run(self._root, "-c", f"core.filesRefLockTimeout={_LOCK_MILLISECONDS}", "update-ref", ours, commit)
        except (BadInput, git.Killed):  # another git writes the same ref
            raise _not_written(f"git does not write {ours}") from None

    def _git(self, *arguments: str, seconds: float, fetch: Quarantine | None = None) -> bytes:
        command = git.command(self._root, *arguments)
        if fetch:
            limited = _LIMITED.format(blocks=max(1, self._max_bytes // _BLOCK_BYTES))
            command = ["sh", "-c", limited, *command]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=git.environment() | (dict(fetch.environment) if fetch else {}),
            pass_fds=(fetch.lock,) if fetch else (),
            start_new_session=True,  # git starts others, which have to end with it
        )
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException as ended:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(ended, subprocess.TimeoutExpired):
                raise Unreachable(
                    f"the git remote did not finish within {seconds:g} s",
                    where=git.without_credentials(self._settings.remote),
                    hint="It is tried again; the limit is pull_requests.max_fetch_seconds.",
                ) from None
            raise
        if process.returncode:
            # git gives no reason of use when it reaches the limit; but then it has come so far.
            if fetch and fetch.size_bytes >= self._max_bytes - _BLOCK_BYTES:
                raise self._too_large()
            raise self._refusal(err.decode("utf-8", "replace"))
        return out

    @property
    def _max_bytes(self) -> int:
        return int(self._settings.max_fetch_mb * 1e6)

    def _too_large(self) -> BadInput:
        return BadInput(
            f"more than {self._settings.max_fetch_mb:g} MB would have to be fetched",
            hint="Keep large files out of git; the limit is pull_requests.max_fetch_mb.",
        )

    def _refusal(self, words: str) -> BadInput | Unreachable:
        where = git.without_credentials(self._settings.remote)
        if "fsck" in words or "bad tree" in words or "error in object" in words:
            fault = next((line for line in words.splitlines() if "object" in line), words.splitlines()[0])
            return BadInput(
                f"git refuses an object of it: {fault.removeprefix('error: ').strip()}",
                hint="Make the commits again with an unchanged git.",
            )
        if "does not appear to be a git repository" in words or "No such remote" in words:
            return BadInput("there is no such remote", where=where, hint="Set pull_requests.remote.")
        told = git.without_credentials_in(words.strip())
        return Unreachable(f"the git remote refuses: {told}", where=where, hint="It is tried again.")


def own_ref(number: int) -> str:
    """Where the head of a pull request is kept in the clone."""
    return f"refs/aml-images/pull/{number}"


def _not_written(why: str) -> Unreachable:
    # Without the place: pull requests show this, and paths of this machine are not published.
    return Unreachable(f"what was fetched cannot be written: {why}", hint="It is tried again.")
