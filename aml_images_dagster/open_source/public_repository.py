"""A public git repository: its content, changes to it, and a branch with one commit that proposes them."""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.errors import BadInput, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import SecretStr

    from aml_images_dagster.catalog.git import ChangedFile
    from aml_images_dagster.open_source.public_part import PublicFile

_TIMEOUT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Author:
    """The author of the commit."""

    name: str
    email: str


class PublicRepository:
    """A checkout of the branch that pull requests go to. `open_public_repository` makes one.

    Attributes:
        url: The repository.
        target: The branch.
        root: The checkout.
        token: The token for pushes; None without one.
    """

    def __init__(self, url: str, target: str, root: Path, author: Author, token: SecretStr | None) -> None:
        self.url = url
        self.target = target
        self.root = root
        self.token = token
        self._author = author

    def read(self, path: str) -> bytes | None:
        """A file as it is there; None when it is not."""
        file = self.root / path
        return file.read_bytes() if file.is_file() and not file.is_symlink() else None

    def write(self, path: str, content: bytes, mode: FileMode = FileMode.REGULAR) -> None:
        """Write a file.

        Raises:
            BadInput: The repository has something there that is not a file.
        """
        file = self.root / path
        above = [folder for folder in file.parents if self.root in folder.parents]
        if file.is_symlink() or file.is_dir() or any(f.is_symlink() or f.is_file() for f in above):
            raise BadInput("the public repository has something else there", where=path, hint="Remove it there first.")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o755 if mode is FileMode.EXECUTABLE else 0o644)

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        if self.read(path) is not None:
            (self.root / path).unlink()

    def replace_folder(self, folder: str, files: Mapping[str, PublicFile]) -> None:
        """Make a folder hold exactly these files. Folders inside of it that are images of their own stay.

        Raises:
            BadInput: As `write`.
        """
        kept = {f"{folder}/{name}" for name in files}
        listed = git.run(self.root, "ls-files", "-z", "--", folder).split(b"\0")
        there = [git.decode(name) for name in listed if name]
        nested = [path.removesuffix("Dockerfile") for path in there if path.endswith("/Dockerfile")]
        inner = tuple(path for path in nested if path != f"{folder}/")
        for path in there:
            if path not in kept and not path.startswith(inner):
                (self.root / path).unlink(missing_ok=True)
        for name, file in files.items():
            self.write(f"{folder}/{name}", file.content, file.mode)

    def continue_from(self, branch: str) -> None:
        """Go on from what the branch proposes and nobody has merged yet, so that the next proposal holds it, too.

        What the target branch has changed since stays as it is there.
        """
        tip = self._tip(branch)
        if not tip:
            return
        self._fetch(branch)
        if not self._is_ours(tip):
            return
        for path in filter(None, self._git("diff", "--name-only", "--no-renames", "-z", f"{tip}~", tip).split("\0")):
            if not self._git("diff", "--name-only", f"{tip}~", "HEAD", "--", f":(literal){path}"):
                self._git("restore", f"--source={tip}", "--worktree", "--", f":(literal){path}")

    def changes(self) -> list[ChangedFile]:
        """What differs from the target branch, sorted by path."""
        self._git("add", "--all", "--force")
        return git.changed_files(self.root, git.resolve(self.root, "HEAD"), None)

    def diff(self) -> str:
        """The same as a unified diff."""
        return self._git("diff", "--no-ext-diff", "--cached", "HEAD")

    def propose(self, branch: str, title: str, body: str) -> tuple[str, bool]:
        """Push all changes as one commit on a branch, in place of what the factory pushed there before.

        Returns:
            The commit, and whether it was pushed; not when the branch proposes the same already.

        Raises:
            BadInput: Others have committed to the branch, or the repository refuses.
            Unreachable: The repository does not answer.
        """
        before = self._tip(branch)
        # By standard input: an argument may have 128 KiB.
        message = f"{title}\n\n{body}".encode("utf-8", "surrogateescape")
        self._git("commit", "-q", "--no-verify", "-F", "-", given=message)
        commit = git.resolve(self.root, "HEAD")
        if before:
            self._fetch(branch)
            if not self._is_ours(before):
                raise BadInput(
                    "the branch has commits of others",
                    where=f"{branch} of {self.url}",
                    hint="Merge or close its pull request and delete the branch, then publish again.",
                )
            if self._what_it_says(before) == self._what_it_says(commit):
                return before, False
        # Only the commit that was read is replaced: one that was pushed meanwhile stays.
        self._git(
            "push", "-q", f"--force-with-lease=refs/heads/{branch}:{before}", "origin", f"HEAD:refs/heads/{branch}"
        )
        return commit, True

    def _fetch(self, branch: str) -> None:
        self._git("fetch", "-q", "--depth=2", "origin", f"+refs/heads/{branch}:refs/remotes/origin/{branch}")

    def _is_ours(self, commit: str) -> bool:
        return self._git("log", "-1", "--format=%ae", commit).strip() == self._author.email

    def _what_it_says(self, commit: str) -> str:
        """Parents, files and words of a commit; not its time."""
        return self._git("log", "-1", "--format=%P %T%n%B", commit)

    def _tip(self, branch: str) -> str:
        # What git is given is a pattern, which other refs may end with.
        listed = self._git("ls-remote", "--", "origin", f"refs/heads/{branch}").splitlines()
        found = (line.partition("\t") for line in listed)
        return next((commit for commit, _, ref in found if ref == f"refs/heads/{branch}"), "")

    def _git(self, *arguments: str, given: bytes | None = None) -> str:
        return _git(self.root, self.url, self._author, self.token, *arguments, given=given)


@contextmanager
def open_public_repository(
    url: str, target: str, author: Author, token: SecretStr | None = None
) -> Iterator[PublicRepository]:
    """Check out the target branch into a temporary folder, without its history.

    Raises:
        BadInput: There is no such repository or branch, or it refuses access.
        Unreachable: The repository does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="aml-images-public-") as folder:
        # A depth is for URLs; git does without it for a folder.
        source = Path(url).expanduser().resolve().as_uri() if "://" not in url and Path(url).is_dir() else url
        clone = ("clone", "-q", "--depth=1", "--single-branch", f"--branch={target}", "--", source, "checkout")
        _git(Path(folder), url, author, token, *clone)
        yield PublicRepository(url, target, Path(folder) / "checkout", author, token)


def _git(
    root: Path, url: str, author: Author, token: SecretStr | None, *arguments: str, given: bytes | None = None
) -> str:
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", author.name), ("EMAIL", author.email))
    }
    # The files are published byte by byte, whatever git's configuration on this machine says.
    options = ["-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false"]
    options += ["-c", "log.showSignature=false"]
    environment = git.environment() | who | _credentials(url, token)
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *options, *arguments],
            input=given,
            capture_output=True,
            check=False,
            env=environment,
            timeout=_TIMEOUT_SECONDS,
        )
    except FileNotFoundError:
        raise BadInput("git is not installed", hint="Install git 2.31 or newer and put it on PATH.") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"no answer in {_TIMEOUT_SECONDS} s", where=url, hint="Try again.") from None
    if done.returncode:
        raise _refusal(done.stderr.decode("utf-8", "replace").strip(), url)
    return done.stdout.decode("utf-8", "replace")


def _credentials(url: str, token: SecretStr | None) -> dict[str, str]:
    """The token as a header, in the environment: arguments are visible to all users of the machine.

    It comes after the configuration that the environment has already, such as a CI system's safe.directory.
    """
    if token is None or not url.startswith("https://"):
        return {}
    inherited = os.environ.get("GIT_CONFIG_COUNT", "")
    number = int(inherited) if inherited.isdecimal() else 0
    basic = base64.b64encode(f"x-access-token:{token.get_secret_value()}".encode()).decode()
    origin = "/".join(url.split("/")[:3])
    return {
        "GIT_CONFIG_COUNT": str(number + 1),
        f"GIT_CONFIG_KEY_{number}": f"http.{origin}/.extraHeader",
        f"GIT_CONFIG_VALUE_{number}": f"Authorization: Basic {basic}",
    }


def _refusal(words: str, url: str) -> BadInput | Unreachable:
    last = words.splitlines()[-1] if words else "git gives no reason"
    lowered = words.lower()
    if "could not resolve host" in lowered or "connection refused" in lowered or "failed to connect" in lowered:
        return Unreachable(f"the public repository does not answer: {last}", where=url, hint="Try again later.")
    if "remote branch" in lowered and "not found" in lowered:
        return BadInput(
            f"the public repository has no such branch: {last}", where=url, hint="Name it in open_source.target_branch."
        )
    if "authentication failed" in lowered or "could not read username" in lowered or "403" in lowered:
        return BadInput(
            f"the public repository refuses access: {last}",
            where=url,
            hint="Set AML_IMAGES_OPEN_SOURCE__TOKEN to a token that may push branches there.",
        )
    return BadInput(f"git refuses: {last}", where=url, hint="Check the settings of the group open_source.")
