"""A proposal to a public repository: files are checked for leaks, the build is proved, one commit is pushed.

Its pull request is opened once and kept up to date afterwards, at GitHub and at Azure DevOps. Sources:
https://docs.github.com/rest/pulls/pulls and
https://learn.microsoft.com/rest/api/azure/devops/git/pull-requests.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.code_hosts.address import address_of
from aml_images_dagster.errors import BadInput
from aml_images_dagster.open_source.leak_check import Leak, LeakRules, check_for_leaks
from aml_images_dagster.open_source.public_part import PublicFile
from aml_images_dagster.open_source.public_repository import Author, PublicRepository, open_public_repository

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pydantic import SecretStr

    from aml_images_dagster.catalog.git import ChangedFile
    from aml_images_dagster.code_hosts.address import HostAddress
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.settings.open_source import PublicPlace

COMMIT_MESSAGE = "the commit message"
"""Where a finding is said to be that is in no file."""
_LONGEST = 4_000
"""UTF-16 units of a description that Azure DevOps takes; GitHub takes 65,536."""
_HINT = "The branch was pushed. Check the token and publish again, or open the pull request manually."


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
        which = "documentation" if place.setting == "docs_repository" else "public"
        raise BadInput(
            f"no {which} repository is configured",
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
        describe: Gives title and text of the commit and of the pull request; the text may have any number of lines.
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
    title, every_line = describe(changes)
    text = _shortened(every_line)
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


def _shortened(text: str) -> str:
    """As many lines of a text as every host takes, and how many others there are."""
    if _size(text) <= _LONGEST:
        return text
    lines = text.splitlines()
    room = _LONGEST - _size(f"… and {len(lines)} more")
    shown = sum(size <= room for size in accumulate(_size(line) + 1 for line in lines))
    return "\n".join([*lines[:shown], f"… and {len(lines) - shown} more"])


def _size(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _pull_request(repository: PublicRepository, request: PullRequest, settings: Settings) -> str:
    wanted = settings.open_source
    address = address_of(repository.url, wanted.host, "open_source", wanted.api_url)
    if repository.token is None or address.kind == "none":
        return ""
    return open_pull_request(repository.url, address, request, repository.token)


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What is proposed.

    Attributes:
        branch: The branch that holds it.
        target: The branch that it is to go to.
        title: Its title.
        text: Its description.
    """

    branch: str
    target: str
    title: str
    text: str


def open_pull_request(url: str, address: HostAddress, request: PullRequest, token: SecretStr) -> str:
    """Open the pull request of a branch, or bring the open one up to date.

    Args:
        url: The repository, as people open it.
        address: The same at its host.
        request: What is proposed.
        token: May write pull requests.

    Returns:
        Where people read it.

    Raises:
        Unreachable: The host refuses or does not answer.
    """
    if address.kind == "github":
        return _at_github(address, request, token.get_secret_value())
    return f"{url.rstrip('/')}/pullrequest/{_at_azure_devops(address, request, token.get_secret_value())}"


def _at_github(address: HostAddress, request: PullRequest, token: str) -> str:
    from aml_images_dagster.code_hosts.github import connect, github_errors

    head = f"{address.repository.partition('/')[0]}:{request.branch}"
    with github_errors(address, _HINT), connect(address, token) as github:
        place = github.get_repo(address.repository)
        for found in place.get_pulls(state="open", head=head, base=request.target):
            found.edit(title=request.title, body=request.text)
            return found.html_url
        made = place.create_pull(base=request.target, head=request.branch, title=request.title, body=request.text)
        return made.html_url


def _at_azure_devops(address: HostAddress, request: PullRequest, token: str) -> int:
    from aml_images_dagster.code_hosts.azure_devops import AzureDevOpsApi

    api = AzureDevOpsApi(address, token, _HINT)
    pull_requests = f"{api.repository}/pullrequests"
    refs = {"sourceRefName": f"refs/heads/{request.branch}", "targetRefName": f"refs/heads/{request.target}"}
    words = {"title": request.title, "description": request.text}
    query = {f"searchCriteria.{name}": value for name, value in refs.items()} | {"searchCriteria.status": "active"}
    found = api.ask("GET", pull_requests, query=query)["value"]
    if found:
        number = found[0]["pullRequestId"]
        api.ask("PATCH", f"{pull_requests}/{number}", words)
    else:
        number = api.ask("POST", pull_requests, refs | words)["pullRequestId"]
    return int(number)
