"""What the catalog asks of git, through git's own command line.

The command line is what users have, so a diff here is exactly the diff they see themselves. Every function takes
`root`, any folder of a working tree or a bare repository; paths go in and come out relative to it, with `/`.
Revisions are looked up behind `--end-of-options` and file names travel behind `-z`, so no name is taken for an option.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

from aml_images_dagster.errors import BadInput, FactoryError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DIRTY = "-dirty"
"""What `describe` adds to the commit when the working tree differs from it."""

ChangeStatus = Literal["A", "D", "M", "T"]

# Variables by which a hook or `git -C` tells its children which repository they are in. Inherited, they would win
# over `root`. Source: `git rev-parse --local-env-vars`; GIT_CONFIG_* stays, CI systems pass safe.directory in it.
_REPOSITORY_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """One line of a diff.

    Attributes:
        path: The file, relative to `root`.
        status: As git writes it: A(dded), D(eleted), M(odified), T(ype changed). Renames show as D and A.
    """

    path: str
    status: ChangeStatus


class Killed(Unreachable):
    """A process was killed before it has answered, as the kernel does when memory is short."""


def environment() -> dict[str, str]:
    """The environment in which git runs: deaf to a surrounding hook, in English, never asking anything."""
    kept = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    return kept | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}


def command(root: Path, *arguments: str) -> list[str]:
    """The argument list that runs git in `root`."""
    # Whoever lets git show signatures gets them in front of what is asked for.
    return ["git", "-C", str(root), "-c", "log.showSignature=false", *arguments]


def run(root: Path, *arguments: str) -> bytes:
    """Run a git command and return what it prints.

    Raises:
        BadInput: git is not installed, `root` is no repository, or git refuses; with git's own words.
        Killed: git was killed.
    """
    done = _try(root, *arguments)
    if done.returncode:
        raise _refusal(root, done)
    return done.stdout


def decode(name: bytes) -> str:
    """A file name as text; bytes that are no UTF-8 survive the way there and back (`surrogateescape`).

    For people and JSON: `printable_line`.
    """
    return name.decode("utf-8", "surrogateescape")


def is_repository(root: Path) -> bool:
    """Whether git tracks `root`, or a folder above it."""
    return _try(root, "rev-parse", "--git-dir").returncode == 0


def resolve(root: Path, revision: str) -> str:
    """The commit that a branch, tag, `HEAD~2`, … names, as a full object name.

    Raises:
        BadInput: There is no such commit, or `root` is no repository.
    """
    done = _try(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode == 0:
        return done.stdout.decode("ascii").strip()
    run(root, "rev-parse", "--git-dir")
    shallow = " The history here is shallow: `git fetch --unshallow` brings the rest." if is_shallow(root) else ""
    raise BadInput(
        f"git knows no revision {revision!r}",
        where=str(root),
        hint=f"Name a branch, tag or commit that exists here, or fetch it first.{shallow}",
    )


def commit_time(root: Path, commit: str) -> int | None:
    """Unix time at which a commit was made; None when there is no such commit."""
    done = _try(root, "show", "--no-patch", "--format=%ct", "--end-of-options", commit)
    return int(done.stdout) if done.returncode == 0 else None


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit.

    Attributes:
        name: Its full object name.
        date: Its day, e.g. `2026-11-26`.
        subject: The first line of its message.
    """

    name: str
    date: str
    subject: str


def log(root: Path, base: str, head: str, paths: Sequence[str]) -> list[Commit]:
    """The commits of `head` that `base` lacks and that change one of some folders or files, newest first.

    Args:
        root: The repository, or a folder in it.
        base: A full object name.
        head: A full object name.
        paths: Relative to `root`; an empty one is all of it.

    Raises:
        BadInput: git refuses.
    """
    specs = [f":(literal){path}" if path else "." for path in paths]
    form = "--format=%H%x00%cs%x00%s"
    listed = run(root, "log", "-z", form, "--end-of-options", f"{base}..{head}", "--", *specs)
    fields = decode(listed).split("\0")
    return [Commit(*fields[at : at + 3]) for at in range(0, len(fields) - 2, 3)]


def merge_base(root: Path, base: str, head: str) -> str:
    """The commit where `head` left `base`; both are full object names.

    Raises:
        BadInput: The two have no common history here.
    """
    done = _try(root, "merge-base", "--end-of-options", base, head)
    if done.returncode == 0:
        return done.stdout.decode("ascii").strip()
    if done.stderr:
        raise _refusal(root, done)
    if is_shallow(root):
        hint = "The history here is shallow: run `git fetch --unshallow`, or let CI check out with full depth."
    else:
        hint = "The two revisions have unrelated histories: name another base."
    raise BadInput(f"{base[:12]} and {head[:12]} have no common commit", where=str(root), hint=hint)


def is_shallow(root: Path) -> bool:
    """Whether the history was cut off when it was fetched, as CI systems like to do."""
    return run(root, "rev-parse", "--is-shallow-repository").strip() == b"true"


def changed_files(root: Path, base: str, head: str | None) -> list[ChangedFile]:
    """What differs between the commit `base` and `head`, sorted by path.

    Args:
        root: The repository, or a folder in it; changes outside of the folder are left out.
        base: A full object name; for a three-dot diff the merge base.
        head: A full object name, or None for the working tree with its untracked files.

    Raises:
        BadInput: git refuses.
    """
    options = ("-z", "--no-renames", "--relative", "--name-status")
    if head is not None:
        listed = run(root, "diff-tree", "-r", *options, "--end-of-options", base, head)
    else:
        listed = run(root, "diff", "--no-ext-diff", *options, "--end-of-options", base, "--")
    fields = listed.split(b"\0")
    changes = {decode(path): _status(status) for status, path in zip(fields[::2], fields[1::2], strict=False)}
    if head is None:
        for path in untracked_files(root):
            # Removed from the index only: git lists it as deleted and as untracked; it is still there.
            changes[path] = "M" if path in changes else "A"
    return [ChangedFile(path, status) for path, status in sorted(changes.items())]


def untracked_files(root: Path) -> list[str]:
    """Files below `root` that are neither tracked nor ignored. A nested repository ends with `/`."""
    listed = run(root, "ls-files", "-z", "--others", "--exclude-standard")
    return [decode(name) for name in listed.split(b"\0") if name]


def describe(root: Path) -> str:
    """The commit that is checked out, with `-dirty` when the working tree differs from it; empty without commits.

    `.env` at the root is no difference: it is about the machine, and nothing that is built can hold it.

    Raises:
        BadInput: `root` is no repository.
    """
    head = _try(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if head.returncode:
        run(root, "rev-parse", "--git-dir")
        return ""
    dirty = run(root, "status", "--porcelain", "-z", "--untracked-files=normal", "--", ":(exclude).env")
    return head.stdout.decode("ascii").strip() + (DIRTY if dirty else "")


def object_sizes(root: Path, names: Sequence[str]) -> list[int]:
    """Sizes in bytes of objects, without reading them.

    Raises:
        BadInput: One is missing.
    """
    asked = "".join(f"{name}\n" for name in names).encode("ascii")
    sizes = _try(root, "cat-file", "--batch-check=%(objectsize)", asked=asked).stdout.split()
    if len(sizes) != len(names):
        raise BadInput("git lacks an object", where=str(root), hint="The clone is damaged or partial: fetch again.")
    return [int(size) for size in sizes]


def has_filters(root: Path, commit: str) -> bool:
    """Whether a commit has files that git changes on their way to the working tree by a program, e.g. Git LFS.

    Args:
        root: The repository, or a folder in it.
        commit: A full object name.
    """
    # Git's own pathspec: at the top and in any folder below.
    files = (".gitattributes", ":(glob)**/.gitattributes")
    return _try(root, "grep", "-q", "-E", "(^|[[:space:]])filter=", commit, "--", *files).returncode == 0


def main_branch(root: Path) -> str:
    """The branch that changes go to: origin's default branch, else a branch `main` or `master`.

    Raises:
        BadInput: There is none.
    """
    candidates = ("refs/remotes/origin/HEAD", "refs/remotes/origin/main", "refs/remotes/origin/master")
    for reference in (*candidates, "refs/heads/main", "refs/heads/master"):
        if _try(root, "rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}").returncode == 0:
            return reference
    run(root, "rev-parse", "--git-dir")
    if _try(root, "rev-parse", "--verify", "--quiet", "HEAD").returncode:
        raise BadInput("the repository has no commit yet", where=str(root), hint="Commit the image folders first.")
    raise BadInput(
        "there is no branch main or master to compare with",
        where=str(root),
        hint="Name one with --base, or build all images with --all.",
    )


def origin_url(root: Path) -> str:
    """Where the repository was cloned from, without any user name or password; empty when there is no origin."""
    done = _try(root, "config", "--get", "remote.origin.url")
    return without_credentials(done.stdout.decode("utf-8", "replace").strip())


def remote_url(root: Path, remote: str) -> str:
    """The URL of a remote by its name, credentials and all; what is not the name of one is a URL or folder itself."""
    done = _try(root, "config", "--get", f"remote.{remote}.url")
    return done.stdout.decode("utf-8", "replace").strip() or remote


def without_credentials(url: str) -> str:
    """A URL without user name, password, query and fragment; `git@host:path` and local paths stay as they are."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    if parts.scheme in ("ssh", "git+ssh"):
        user = parts.netloc.rpartition("@")[0].partition(":")[0]
        host = f"{user}@{_host(parts.netloc)}" if user else parts.netloc
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    return urlunsplit((parts.scheme, _host(parts.netloc), parts.path, "", ""))


def without_credentials_in(text: str) -> str:
    """A text with `without_credentials` for every URL in it."""
    return re.sub(r"\w+://[^\s'\"]+", lambda url: without_credentials(url.group()), text)


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2]


def _status(letter: bytes) -> ChangeStatus:
    match letter:
        case b"A":
            return "A"
        case b"D":
            return "D"
        case b"T":
            return "T"
        case _:  # M, and U for a file in the middle of a merge
            return "M"


def _try(root: Path, *arguments: str, asked: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        done = subprocess.run(
            command(root, *arguments), input=asked, capture_output=True, check=False, env=environment()
        )
    except FileNotFoundError as error:
        raise BadInput("git is not installed", hint="Install git 2.31 or newer and put it on PATH.") from error
    if done.returncode == -signal.SIGKILL:
        raise ended(root, done.returncode)
    return done


def ended(root: Path, code: int) -> FactoryError:
    """What is wrong when git has ended before it has answered."""
    if code == -signal.SIGKILL:
        # Without the place: pull requests show this, and paths of this machine are not published.
        return Killed("git was killed", hint="Try again, with more memory: the kernel kills when it is short.")
    return BadInput(f"git ended with code {code}", where=str(root))


def _refusal(root: Path, done: subprocess.CompletedProcess[bytes]) -> FactoryError:
    words = done.stderr.decode("utf-8", "replace").strip()
    if not words:
        return ended(root, done.returncode)
    if "not a git repository" in words:
        return BadInput(
            "this folder is in no git repository",
            where=str(root),
            hint="Run the command in a clone, or name one with --repo.",
        )
    if "dubious ownership" in words:
        return BadInput(
            "git refuses a repository that belongs to another user",
            where=str(root),
            hint=f"If you trust it: git config --global --add safe.directory {root}",
        )
    if "cannot change to" in words:
        return BadInput("there is no such folder", where=str(root), hint="Name a clone with --repo.")
    return BadInput(f"git refuses: {words}", where=str(root))
