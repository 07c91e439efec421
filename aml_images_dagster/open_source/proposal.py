"""A proposal to a public repository: files are checked for leaks, the build is proved, one commit is pushed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.code_hosts.address import address_of
from aml_images_dagster.errors import BadInput
from aml_images_dagster.open_source.leak_check import Leak, LeakRules, check_for_leaks
from aml_images_dagster.open_source.public_part import PublicFile
from aml_images_dagster.open_source.public_repository import Author, PublicRepository, open_public_repository
from aml_images_dagster.open_source.pull_request import PullRequest, open_pull_request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from aml_images_dagster.catalog.git import ChangedFile
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.settings.open_source import PublicPlace

COMMIT_MESSAGE = "the commit message"
"""Where a finding is said to be that is in no file."""


class LeaksFound(BadInput):
    """Something that must not become public was found; nothing was pushed.

    Args:
        leaks: All findings.
    """

    def __init__(self, leaks: Collection[Leak]) -> None:
        listed = "\n  ".join(map(str, leaks))
        super().__init__(f"the leak check has {len(leaks)} finding(s); nothing was pushed:\n  {listed}")
        self.leaks = tuple(leaks)


@dataclass(frozen=True)
class Proposal:
    """The result of a proposal.

    Attributes:
        outcome: `unchanged`: the public repository has it all. `proposed before`: the branch has it already.
        repository: The public repository.
        branch: The branch that proposes the changes.
        changes: Changed files of the public repository.
        diff: The same as a unified diff.
        commit: The commit on the branch; empty when there is none.
        pull_request: Where its pull request is read; empty when none was opened.
    """

    outcome: Literal["unchanged", "dry run", "proposed", "proposed before"]
    repository: str
    branch: str
    changes: tuple[ChangedFile, ...] = ()
    diff: str = field(default="", repr=False)
    commit: str = ""
    pull_request: str = ""


@contextmanager
def open_place(place: PublicPlace, settings: Settings) -> Iterator[PublicRepository]:
    """Check out a public repository that the settings name, with what was proposed there and is not merged yet.

    Raises:
        BadInput: They name none, or it is not available.
        Unreachable: It does not answer.
    """
    if not place.url:
        raise BadInput(
            "no public repository is configured",
            where=f"open_source.{place.setting}",
            hint=f"Set AML_IMAGES_OPEN_SOURCE__{place.setting.upper()} to its URL.",
        )
    author = Author(settings.open_source.author_name, settings.open_source.author_email)
    with open_public_repository(place.url, place.target, author, place.token) as repository:
        repository.continue_from(settings.open_source.sync_branch)
        yield repository


def propose(
    repository: PublicRepository,
    published: Mapping[str, PublicFile],
    rules: LeakRules,
    describe: Callable[[Sequence[ChangedFile]], tuple[str, str]],
    settings: Settings,
    *,
    further_leaks: Collection[Leak] = (),
    prove: Callable[[Sequence[ChangedFile]], None] = lambda _: None,
    dry_run: bool = False,
) -> Proposal:
    """Look for leaks, prove, push, and open a pull request where there is a host and a token for it.

    Args:
        repository: The checkout, with the new files in it.
        published: What is published, changed or not; all of it is checked, and all other changes as well.
        rules: What must not become public.
        describe: Gives title and text of the commit.
        settings: Name the branch.
        further_leaks: Findings of callers that know more than the files.
        prove: Raises unless the changed files are as they should be.
        dry_run: Stop before proving and pushing.

    Raises:
        LeaksFound: Something that must not become public was found.
        BadInput: The repository refuses.
        Unreachable: It does not answer.
    """
    changes = tuple(repository.changes())
    title, text = describe(changes)
    looked_through = {COMMIT_MESSAGE: PublicFile(FileMode.REGULAR, f"{title}\n{text}".encode())}
    for change in changes:
        content = repository.read(change.path)
        if content is not None:
            looked_through[change.path] = PublicFile(FileMode.REGULAR, content)
    leaks = sorted({*check_for_leaks({**looked_through, **published}, rules), *further_leaks})
    if leaks:
        raise LeaksFound(leaks)
    branch = settings.open_source.sync_branch
    if not changes:
        return Proposal("unchanged", repository.url, branch)
    diff = repository.diff()
    if dry_run:
        return Proposal("dry run", repository.url, branch, changes, diff)
    prove(changes)
    commit, pushed = repository.propose(branch, title, text)
    outcome: Literal["proposed", "proposed before"] = "proposed" if pushed else "proposed before"
    request = PullRequest(branch, repository.target, title, text)
    return Proposal(
        outcome, repository.url, branch, changes, diff, commit, _pull_request(repository, request, settings)
    )


def _pull_request(repository: PublicRepository, request: PullRequest, settings: Settings) -> str:
    wanted = settings.open_source
    address = address_of(repository.url, wanted.host, "open_source", wanted.api_url)
    if repository.token is None or address.kind == "none":
        return ""
    return open_pull_request(repository.url, address, request, repository.token)
