"""The evaluation of one head: whether it is built, and which of its images."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.git import Killed
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.pull_requests.admission import admit, approving_labels
from aml_images_dagster.settings.pull_requests import EVERYONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.pull_requests.changes import Changes
    from aml_images_dagster.pull_requests.hosts.interface import PullRequestHost
    from aml_images_dagster.pull_requests.remote import GitRemote
    from aml_images_dagster.pull_requests.tracking import Tracked
    from aml_images_dagster.settings import Settings

_TRIES = 3
"""How often a head is evaluated whose evaluation is killed: one that takes too much memory would end others, too."""


@dataclass(frozen=True, slots=True)
class Assessor:
    """The services of an evaluation.

    Attributes:
        settings: All settings.
        remote: Where the commits are.
        host: The host that knows where a pull request comes from; None without one.
        find_changes: Finds what differs between two commits, target and head, within some seconds.
    """

    settings: Settings
    remote: GitRemote
    host: PullRequestHost | None
    find_changes: Callable[[str, str, float], Changes]

    def assess(self, number: int, tracked: Tracked, target: str, now: float, until: float) -> Changes | None:
        """Evaluate the head of a pull request, and record the result.

        What fails for a reason that may pass is tried again later.

        Args:
            number: The pull request.
            tracked: What is known of it; receives the result.
            target: Commit of the branch that it goes to.
            now: The time, in seconds since the epoch.
            until: When the time for it is over, by `time.monotonic`.

        Returns:
            What is to be built; None when nothing is.
        """
        try:
            changes = self._evaluate(number, tracked, target, until)
        except BadInput as fault:
            tracked.phase, tracked.note = "invalid", str(fault)
            self.remote.forget(number)
            return None
        except Unreachable as fault:
            tracked.note = str(fault)
            tracked.evaluation.failed(now)
            if isinstance(fault, Killed) and tracked.evaluation.failures >= _TRIES:
                tracked.phase, tracked.note = "invalid", f"{fault.what}, {_TRIES} times: it may take too much memory"
                self.remote.forget(number)
            return None
        tracked.evaluation.succeeded()
        if tracked.phase == "refused":
            tracked.evaluation.failed(now)  # a reviewer has time to admit it first
        return changes

    def _evaluate(self, number: int, tracked: Tracked, target: str, until: float) -> Changes | None:
        rules = self.settings.pull_requests.rules
        origin = self.host.origin(number) if self.host and EVERYONE not in rules else None
        admission = admit(rules, origin, seen_without_label=tracked.seen_without_label)
        if not admission.admitted:
            labels = approving_labels(rules, origin) if origin else []
            tracked.phase, tracked.note = "refused", admission.why
            tracked.seen_without_label = not labels
            if self.host and labels:
                # It was given to another commit. Once it is off, it can be given to this one.
                for label in labels:
                    self.host.remove_label(number, label)
                tracked.seen_without_label = True
            return None
        if not self.remote.fetch(number, tracked.head, until - time.monotonic()):
            tracked.phase, tracked.note = "waiting", "it has a newer commit by now"
            return None
        changes = self.find_changes(target, tracked.head, until - time.monotonic())
        tracked.notes = changes.notes
        if not changes.reasons:
            tracked.phase, tracked.note = "nothing", "no image is changed"
            return None
        tracked.note = admission.why
        return changes
