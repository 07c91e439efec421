"""One look at the pull requests of a remote.

Every look goes the same way: see what is open, follow the runs, end what is superseded, judge what is new and ask for
runs, forget what is closed, tell the host. What does not fit into the seconds of a look waits for the next one, so that
a thousand pull requests cost no more than their number.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.keys import BUILD_JOB
from aml_images_dagster.assets.request import (
    COMMIT_TAG,
    PULL_REQUEST_TAG,
    REMOTE_TAG,
    SEEN_TAG,
    TRIGGER_TAG,
    build_config,
    pull_request_keys,
)
from aml_images_dagster.automation.pull_request_report import report_of
from aml_images_dagster.automation.reload import reload_code_location
from aml_images_dagster.builds.cleanup import cleanup
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.catalog import git
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.pull_requests.assessment import Assessor
from aml_images_dagster.pull_requests.changes import ChangeFinder
from aml_images_dagster.pull_requests.declaration import Declarations, unknown_images
from aml_images_dagster.pull_requests.hosts.interface import Status
from aml_images_dagster.pull_requests.hosts.opening import open_host
from aml_images_dagster.pull_requests.remote import GitRemote
from aml_images_dagster.pull_requests.tracking import Pause, Tracked, Tracking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.builds.selection import Selection
    from aml_images_dagster.pull_requests.declaration import DeclaredImage
    from aml_images_dagster.pull_requests.hosts.interface import PullRequestHost

TRIGGER = "pull request"

_LISTING_SECONDS = 60
_JUDGING_SECONDS = 1.0
_TELLING_SECONDS = 1.0
_CLOSING_SECONDS = 0.5
"""How much of a tick each part may take before it leaves the rest to the next; one is always begun."""

_OVERLAP_SECONDS = 5
_SHOWN_SENTENCES = 50
_RELOADS = 5
_PHASES = {
    "waiting": "to be judged",
    "refused": "not admitted",
    "invalid": "that cannot be built",
    "nothing": "that change no image",
    "reload": "waiting for a reload of the code location",
    "requested": "with a build",
}
_RUNNING = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)


class Watch:
    """Looks at the pull requests of the remote.

    Args:
        workshop: Settings and parts.
        known: The images that Dagster knows, each with its parents.
    """

    def __init__(self, workshop: Workshop, known: Mapping[str, tuple[str, ...]]) -> None:
        self.workshop = workshop
        self.settings = workshop.settings.pull_requests
        self.known = known

    @cached_property
    def host(self) -> PullRequestHost | None:
        """Who can be asked and told; None without a token."""
        return open_host(self.workshop.settings)[1]

    @cached_property
    def remote(self) -> GitRemote:
        """Where the commits are."""
        address, _ = open_host(self.workshop.settings)
        return GitRemote(self.workshop.settings.repo, self.settings, self.settings.refs or address.refs)

    @cached_property
    def assessor(self) -> Assessor:
        """Who judges."""
        finder = ChangeFinder(self.workshop.settings, self.workshop.parts)
        return Assessor(self.workshop.settings, self.remote, self.host, finder)

    @cached_property
    def remote_tag(self) -> str:
        """The remote as runs name it; two code locations of an instance may have different ones."""
        settings = self.workshop.settings
        return git.without_credentials(git.remote_url(settings.repo, self.settings.remote))

    def look(self, context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """One tick.

        Raises:
            FactoryError: The remote or the host cannot be asked.
        """
        look = _Look(self, context, Tracking.read(context.cursor), time.time())
        heads = self.remote.heads()
        self.remote.fetch_target(heads.target)
        look.compare(self._open(look.tracking, heads.pull_requests, look.now))
        look.follow_runs()
        look.end_superseded()
        look.judge(heads.target)
        look.close()
        look.tell()
        look.reload_if_needed()
        return look.result()

    def _open(self, tracking: Tracking, heads: Mapping[int, str], now: float) -> dict[int, str]:
        """The heads of those that are open. Refs alone do not tell where a host keeps those of closed ones."""
        if self.host is None:
            return dict(heads)
        refs = hashlib.sha256(repr(sorted(heads.items())).encode()).hexdigest()
        is_old = refs != tracking.refs or now - tracking.listed > _LISTING_SECONDS
        is_doubted = any(not missing.is_closed for missing in tracking.closed.values())
        if tracking.open_numbers is None or is_old or is_doubted:
            tracking.open_numbers = tuple(sorted(self.host.open_pull_requests()))
            tracking.refs, tracking.listed = refs, now
        return {number: heads[number] for number in tracking.open_numbers if number in heads}


class _Look:
    """One tick: what is remembered, and what comes of it."""

    def __init__(self, watch: Watch, context: dg.SensorEvaluationContext, tracking: Tracking, now: float) -> None:
        self.tracking = tracking
        self.now = now
        self._watch = watch
        self._instance = context.instance
        self._location = context.code_location_origin.location_name if context.code_location_origin else ""
        self._requests: list[dg.RunRequest] = []
        self._said: list[str] = []

    def compare(self, heads: Mapping[int, str]) -> None:
        """Take note of new heads, and of what is closed."""
        tracked, closed = self.tracking.pull_requests, self.tracking.closed
        for number, missing in closed.items():
            missing.is_closed = missing.is_closed or number not in heads
        for number in [number for number in tracked if number not in heads]:
            closed[number] = tracked.pop(number)  # and not more: what is missing for a moment loses nothing
            closed[number].judge.succeeded()
        for number, head in heads.items():
            before = closed.pop(number, None) or tracked.get(number)
            if before is None:
                tracked[number] = Tracked(head=head, seen=self.now)
            elif before.head != head or before.is_closed:
                tracked[number] = before.anew(head, self.now)
                self._say(
                    number, f"is open again at {head[:8]}" if before.is_closed else f"has the new head {head[:8]}"
                )
            else:
                tracked[number] = before

    def end_superseded(self) -> None:
        """Cancel every run that is not about a head as it stands; the cleanup ends its build."""
        mine = {TRIGGER_TAG: TRIGGER, REMOTE_TAG: self._watch.remote_tag}
        for run in self._instance.get_runs(dg.RunsFilter(tags=mine, statuses=list(_RUNNING))):
            number = int(run.tags[PULL_REQUEST_TAG])
            tracked, missing = self.tracking.pull_requests.get(number), self.tracking.closed.get(number)
            if tracked and tracked.head == run.tags[COMMIT_TAG] and tracked.seen == _seen(run):
                continue
            if missing and not missing.is_closed:
                continue
            why = "superseded" if tracked else "closed"
            try:
                self._instance.run_coordinator.cancel_run(run.run_id)
                self._say(number, f"{why}: run {run.run_id[:8]} is cancelled")
            except Exception as error:  # noqa: BLE001 - whatever a launcher raises: the next tick tries again
                self._say(number, f"{why}: run {run.run_id[:8]} cannot be cancelled yet ({error})")

    def follow_runs(self) -> None:
        """See how runs have gone on since the last tick; of several for the same head the newest counts."""
        mine = {TRIGGER_TAG: TRIGGER, REMOTE_TAG: self._watch.remote_tag}
        looked = self.tracking.runs_until
        since = datetime.fromtimestamp(max(0, looked - _OVERLAP_SECONDS), UTC)
        self.tracking.runs_until = self.now
        for record in self._instance.get_run_records(dg.RunsFilter(tags=mine, updated_after=since)):
            run, created = record.dagster_run, record.create_timestamp.timestamp()
            tracked = self.tracking.pull_requests.get(int(run.tags[PULL_REQUEST_TAG]))
            if tracked is None or tracked.head != run.tags[COMMIT_TAG] or created < tracked.run_created:
                continue
            # A look that the cursor does not know of has asked for it: the cursor is lost, or was not written.
            is_forgotten = _seen(run) > looked and run.status is not dg.DagsterRunStatus.CANCELED
            if _seen(run) == tracked.seen or is_forgotten:
                tracked.run, tracked.run_created, tracked.run_status = run.run_id, created, run.status.value
                tracked.phase, tracked.seen = "requested", _seen(run)

    def judge(self, target: str) -> None:
        """Judge heads that are new, or whose time has come, and ask for their runs.

        Those that were not admitted come last, and of them first who has waited longest: strangers hold up nobody.
        """
        until = time.monotonic() + _JUDGING_SECONDS
        for number, tracked in self._in_order(lambda t: (t.phase == "refused", t.judge.until, t.seen)):
            if tracked.phase not in ("waiting", "refused", "reload") or tracked.judge.until > self.now:
                continue
            if time.monotonic() > until:
                self._say_waiting("wait for the next look")
                break
            try:
                self._judge(number, tracked, target)
            except Exception as error:  # noqa: BLE001 - what a stranger has written must not stop the others
                tracked.phase = "invalid"
                tracked.note = f"it could not be looked at: {type(error).__name__}"
                self._say(number, f"{tracked.note}: {error}")

    def _in_order(self, key: Callable[[Tracked], tuple[bool, float, float]]) -> list[tuple[int, Tracked]]:
        return sorted(self.tracking.pull_requests.items(), key=lambda item: key(item[1]))

    def _judge(self, number: int, tracked: Tracked, target: str) -> None:
        if tracked.phase == "reload" and not self._is_loaded(number):
            return
        changes = self._watch.assessor.assess(number, tracked, target, self.now)
        if changes is None:
            self._say(number, f"{tracked.phase}: {tracked.note.splitlines()[0] if tracked.note else ''}")
            return
        missing = unknown_images(changes.selection, changes.catalogue, self._watch.known)
        if missing:
            names = ", ".join(image.id for image in missing)
            self._declare(number, missing)
            tracked.phase, tracked.note = "reload", f"Dagster has yet to learn of {names}"
            self._say(number, tracked.note)
            return
        tracked.phase = "requested"
        self._requests.append(self._request(number, tracked, changes.selection))
        self._say(number, f"{len(changes.selection)} images at {tracked.head[:8]}: {tracked.note}")

    def _request(self, number: int, tracked: Tracked, selection: Selection) -> dg.RunRequest:
        reasons = {image: list(why) for image, why in selection.items()}
        return dg.RunRequest(
            run_key=f"{self._watch.remote_tag} {number} {tracked.head} {tracked.seen}",
            job_name=BUILD_JOB,
            asset_selection=pull_request_keys(selection),
            run_config=build_config(source_commit=tracked.head, reasons=reasons),
            tags={
                TRIGGER_TAG: TRIGGER,
                PULL_REQUEST_TAG: str(number),
                COMMIT_TAG: tracked.head,
                SEEN_TAG: str(tracked.seen),
                REMOTE_TAG: self._watch.remote_tag,
            },
        )

    def close(self) -> None:
        """Remove what closed pull requests have in staging, and forget them."""
        until = time.monotonic() + _CLOSING_SECONDS
        for number, tracked in list(self.tracking.closed.items()):
            if not tracked.is_closed or tracked.judge.until > self.now:
                continue
            if time.monotonic() > until:
                break
            tags = {TRIGGER_TAG: TRIGGER, REMOTE_TAG: self._watch.remote_tag, PULL_REQUEST_TAG: str(number)}
            records = self._instance.get_run_records(dg.RunsFilter(tags=tags))
            if any(not record.dagster_run.is_finished for record in records):
                continue
            left = [build for record in records if not self._is_clean(build := _build_of(record))]
            if left:
                tracked.judge.failed(self.now)
                self._say(number, f"closed, but {', '.join(left)} could not be removed yet")
                continue
            self._watch.remote.forget(number)
            if (tracked.phase == "requested" and tracked.run_status != "SUCCESS") or tracked.superseded:
                self._tell_cancelled(number, tracked)
            del self.tracking.closed[number]
            self._say(number, "closed and forgotten")
        self._declare_only_open()

    def _is_clean(self, build: str) -> bool:
        """Whether nothing of a build is left, once it is removed."""
        parts = self._watch.workshop.parts
        record = parts.artifacts.build(build).read_build()
        if record is None or record.status in ("failed", "canceled", "expired"):
            return True
        return cleanup(build, parts, "expired").clean

    def tell(self) -> None:
        """Tell the host what is new. A host that does not answer is told later; no build waits for it."""
        if self._watch.host is None:
            return
        until = time.monotonic() + _TELLING_SECONDS
        for number, tracked in self._in_order(lambda t: (t.phase == "refused", t.tell.until, t.seen)):
            is_due = tracked.superseded or tracked.told != tracked.to_tell
            if not is_due or tracked.tell.until > self.now:
                continue
            if time.monotonic() > until:
                self._say_waiting("have yet to be told")
                break
            try:
                self._tell(self._watch.host, number, tracked)
                tracked.tell = Pause(until=self.now)  # not a pause, but its place among the others
            except Unreachable as fault:
                tracked.tell.failed(self.now)
                self._say(number, f"could not be told, and will be again: {fault}")

    def _tell(self, host: PullRequestHost, number: int, tracked: Tracked) -> None:
        to_tell = tracked.to_tell
        for head in tracked.superseded:
            host.set_status(number, head, Status("cancelled", f"superseded by {tracked.head[:8]}"))
        tracked.superseded = ()
        if tracked.told == to_tell:
            return
        report = report_of(tracked, self._watch.workshop, self._instance)
        host.set_status(number, tracked.head, report.status)
        tracked.comment = host.write_comment(number, tracked.comment, report.comment)
        tracked.told = to_tell

    def _tell_cancelled(self, number: int, tracked: Tracked) -> None:
        """Once, without another try: who looks at a closed pull request sees that it is closed."""
        if self._watch.host is not None:
            try:
                for head in dict.fromkeys((*tracked.superseded, tracked.head)):
                    self._watch.host.set_status(number, head, Status("cancelled", "the pull request was closed"))
            except Unreachable as fault:
                self._say(number, f"could not be told: {fault}")

    # Images that Dagster does not know

    @cached_property
    def _declarations(self) -> Declarations:
        return Declarations.read(self._watch.workshop.parts.artifacts.root)

    def _declare(self, number: int, images: tuple[DeclaredImage, ...]) -> None:
        self._write_declarations({**self._declarations.images, number: images})

    def _declare_only_open(self) -> None:
        open_ones = {n: i for n, i in self._declarations.images.items() if n in self.tracking.pull_requests}
        if len(open_ones) < len(self._declarations.images):
            self._write_declarations(open_ones)

    def _write_declarations(self, images: dict[int, tuple[DeclaredImage, ...]]) -> None:
        if images != self._declarations.images:
            self._declarations = Declarations(images=images)
            self._declarations.write(self._watch.workshop.parts.artifacts.root)

    def _is_loaded(self, number: int) -> bool:
        declared = self._declarations.images.get(number, ())
        known = self._watch.known
        return all(image.id in known and set(image.parents) & set(known) <= set(known[image.id]) for image in declared)

    def reload_if_needed(self) -> None:
        """Ask for a reload, some times, when a pull request waits for it."""
        pause = self.tracking.reload
        waiting = [n for n, t in self.tracking.pull_requests.items() if t.phase == "reload" and not self._is_loaded(n)]
        if not waiting:
            pause.succeeded()
            return
        if pause.failures >= _RELOADS:
            for number in waiting:
                tracked = self.tracking.pull_requests[number]
                tracked.phase = "invalid"
                tracked.note = (
                    "Dagster does not take up its images: a name is that of another image but for its punctuation, "
                    "images are built FROM each other, or the code location cannot be loaded again"
                )
            pause.succeeded()
            return
        if pause.until <= self.now:
            pause.failed(self.now)
            try:
                reload_code_location(self._watch.settings.ui_url, self._location)
                self._said.append("the code location is loaded again")
            except Unreachable as fault:
                self._said.append(str(fault))

    # What the tick says

    def result(self) -> dg.SensorResult:
        """For Dagster."""
        cursor = self.tracking.write()
        if self._requests:
            return dg.SensorResult(run_requests=self._requests, cursor=cursor)
        return dg.SensorResult(skip_reason=dg.SkipReason(self._summary()), cursor=cursor)

    def _summary(self) -> str:
        phases = Counter(tracked.phase for tracked in self.tracking.pull_requests.values())
        counted = ", ".join(f"{count} {_PHASES[phase]}" for phase, count in sorted(phases.items())) or "none"
        return "\n".join([f"Open pull requests: {counted}.", *self._said[:_SHOWN_SENTENCES]])

    def _say(self, number: int, sentence: str) -> None:
        self._said.append(f"#{number} {sentence}")

    def _say_waiting(self, sentence: str) -> None:
        self._said.append(f"The others {sentence}.")


def _seen(run: dg.DagsterRun) -> float:
    return float(run.tags.get(SEEN_TAG, 0))


def _build_of(record: dg.RunRecord) -> str:
    return build_number(record.dagster_run.run_id, record.create_timestamp)
