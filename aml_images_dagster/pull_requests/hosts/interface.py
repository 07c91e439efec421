"""The interface of hosts of pull requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from aml_images_dagster.pull_requests.admission import Origin

Outcome = Literal["pending", "success", "failure", "canceled"]

STATUS_NAME = "aml-images"
"""Under this name a host shows the status among those of others."""

MARKER = "<!-- aml-images: the build of this pull request -->"
"""The first line of the comment, by which it is found again; readers do not see it."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is shown beside a commit.

    Attributes:
        outcome: How far its build has come.
        description: One sentence.
        url: Where to read more; empty when there is nothing.
    """

    outcome: Outcome
    description: str
    url: str = ""


class PullRequestHost(Protocol):
    """A host. Every method makes a request or more, and raises `Unreachable` when it is not done."""

    def open_pull_requests(self) -> frozenset[int]:
        """The numbers of open pull requests. Refs are not enough: GitHub keeps those of closed ones."""

    def origin(self, number: int) -> Origin:
        """Where a pull request comes from."""

    def set_status(self, number: int, head: str, status: Status) -> None:
        """Show a status beside a commit of a pull request, in place of the one before."""

    def write_comment(self, number: int, comment: str, body: str) -> str:
        """Write the one comment, or change it when it is there.

        Args:
            number: The pull request.
            comment: What this method returned last; empty when that is not known.
            body: Markdown that begins with `MARKER`.

        Returns:
            By which the comment is known at the host.
        """

    def remove_label(self, number: int, label: str) -> None:
        """Take a label off, which may be gone already."""
