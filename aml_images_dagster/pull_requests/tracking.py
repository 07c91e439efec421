"""The state of every open pull request between two polls of the remote; the sensor keeps it as its cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

Phase = Literal["waiting", "refused", "invalid", "nothing", "reload", "requested"]
"""How far the head of a pull request is.

`waiting`: not evaluated yet; `refused`: not admitted; `invalid`: over a limit, or cannot be built; `nothing`: changes
no image; `reload`: Dagster has yet to learn of its images; `requested`: a run was asked for.
"""

_FIRST_PAUSE_SECONDS = 30
_LONGEST_PAUSE_SECONDS = 300


class Pause(BaseModel):
    """When to try again what has failed: after 30 s, then twice as long each time, up to 5 minutes.

    Attributes:
        failures: How often in a row it has failed.
        until: Before this time (seconds since the epoch) it is not tried.
    """

    failures: int = 0
    until: float = 0

    def failed(self, now: float) -> None:
        """Record one more failure."""
        self.failures += 1
        self.until = now + min(_FIRST_PAUSE_SECONDS * 2.0 ** (self.failures - 1), _LONGEST_PAUSE_SECONDS)

    def succeeded(self) -> None:
        """Reset the failures."""
        self.failures, self.until = 0, 0


class Tracked(BaseModel):
    """An open pull request.

    Attributes:
        head: The commit that this is about.
        seen: When it was first seen open with this head, in seconds since the epoch. It separates its runs from earlier
            ones of the same commit, because a pull request may go back to a commit, or be opened again.
        is_closed: Whether it is closed: it was missing in two polls in a row.
        phase: How far it is.
        note: Why it is there, in a sentence or more.
        notes: Further information.
        seen_without_label: Whether this head was seen without a label that admits it.
        evaluation: When to evaluate it again.
        reloads: How often the code location was loaded again for it.
        run: Id of the run that builds it; empty until it is known.
        run_created: When that run was created, in seconds since the epoch.
        run_status: The status of the run, as in Dagster.
        reported: What the host was last sent.
        report: When to report to the host again.
        comment: By which the host knows our comment.
        superseded: Commits before it whose canceled builds are yet to be reported to the host.
    """

    head: str
    seen: float = 0
    is_closed: bool = False
    phase: Phase = "waiting"
    note: str = ""
    notes: tuple[str, ...] = ()
    seen_without_label: bool = False
    evaluation: Pause = Pause()
    reloads: int = 0
    run: str = ""
    run_created: float = 0
    run_status: str = ""
    reported: str = ""
    report: Pause = Pause()
    comment: str = ""
    superseded: tuple[str, ...] = ()

    @property
    def to_report(self) -> str:
        """Changes when there is something new to report to the host."""
        return f"{self.head} {self.phase} {self.run} {self.run_status} {self.note if self.phase != 'waiting' else ''}"

    @property
    def is_being_built(self) -> bool:
        """Whether it is to be built, and that has not ended."""
        return self.phase in ("reload", "requested") and self.run_status not in _FINISHED

    def again(self, head: str, now: float) -> Tracked:
        """The same pull request, to be evaluated from the beginning: with a new head, or opened again."""
        superseded = (*self.superseded, self.head) if self.is_being_built else self.superseded
        others = tuple(commit for commit in superseded if commit != head)
        return Tracked(head=head, seen=now, comment=self.comment, superseded=others)


class Tracking(BaseModel):
    """All of it.

    Attributes:
        pull_requests: The open ones by number.
        closed: Those that are missing, with work that is left once they are closed.
        open_numbers: What the host has named as open; None without a host.
        listed: When it did, in seconds since the epoch.
        refs: Fingerprint of the refs of the remote then.
        runs_until: Runs were read up to this time.
        reload: When to ask again for a reload of the code location.
    """

    pull_requests: dict[int, Tracked] = {}
    closed: dict[int, Tracked] = {}
    open_numbers: tuple[int, ...] | None = None
    listed: float = 0
    refs: str = ""
    runs_until: float = 0
    reload: Pause = Pause()

    @classmethod
    def read(cls, cursor: str | None) -> Tracking:
        """From a cursor; from the beginning when there is none, or when another version has written it."""
        try:
            return cls.model_validate_json(cursor or "{}")
        except ValidationError:
            return cls()

    def in_order(self, key: Callable[[Tracked], tuple[bool, float, float]]) -> list[tuple[int, Tracked]]:
        """The open ones with their numbers, sorted."""
        return sorted(self.pull_requests.items(), key=lambda item: key(item[1]))

    def write(self) -> str:
        """As a cursor."""
        return self.model_dump_json(exclude_defaults=True)


_FINISHED = ("SUCCESS", "FAILURE", "CANCELED")
