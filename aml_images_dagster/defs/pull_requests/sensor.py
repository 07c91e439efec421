"""The sensor that polls the pull requests of a remote.

Every poll goes the same way: see what is open, follow the runs, end what is superseded, evaluate what is new and
request runs, forget what is closed, report to the host. What does not fit into the seconds of a poll waits for the next
one, so that a thousand pull requests cost no more than their number.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from functools import cached_property, partial
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.artifacts import DamagedRecord
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.records import ENDED
from aml_images_dagster.catalog import git
from aml_images_dagster.defs.keys import ENDED_BUILDS, ENDING_JOB
from aml_images_dagster.defs.operations.jobs import operations_config
from aml_images_dagster.defs.planning import pull_request_to_do
from aml_images_dagster.defs.pull_requests.report import Reporter
from aml_images_dagster.defs.pull_requests.runs import NewImages, PullRequestRuns, commit_of, number_of, seen_of
from aml_images_dagster.defs.run_state import InstanceRuns
from aml_images_dagster.defs.ticks import sensor_status, skips_while_unreachable
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.pull_requests.assessment import Assessor
from aml_images_dagster.pull_requests.declaration import unknown_images
from aml_images_dagster.pull_requests.hosts import open_host
from aml_images_dagster.pull_requests.inspection import look_through
from aml_images_dagster.pull_requests.remote import open_remote
from aml_images_dagster.pull_requests.tracking import Tracked, Tracking
from aml_images_dagster.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.defs.operations.jobs import AssetJob
    from aml_images_dagster.defs.run import Factory
    from aml_images_dagster.pull_requests.hosts.interface import PullRequestHost
    from aml_images_dagster.pull_requests.remote import GitRemote

_POLL_SECONDS = 45
"""How long a poll may take until nothing more is waited for: Dagster ends a tick after 60 s."""

_LISTING_SECONDS = 60
_EVALUATION_SECONDS = 1.0
_CLOSING_SECONDS = 0.5
"""How much of a tick each part may take before it leaves the rest to the next; one is always begun."""

_OVERLAP_SECONDS = 5
_SHOWN_SENTENCES = 50
_PHASES = {
    "waiting": "to be evaluated",
    "refused": "not admitted",
    "invalid": "that cannot be built",
    "nothing": "that change no image",
    "reload": "waiting for a reload of the code location",
    "requested": "with a build",
}


class PullRequestPoll:
    """Polls the pull requests of the remote.

    Args:
        factory: Settings and backends.
        known: The images that Dagster knows, each with its parents.
    """

    def __init__(self, factory: Factory, known: Mapping[str, tuple[str, ...]]) -> None:
        self.factory = factory
        self.known = known

    @cached_property
    def host(self) -> PullRequestHost | None:
        """The host to ask and to report to; None without a token."""
        return open_host(self.factory.settings)[1]

    @cached_property
    def remote(self) -> GitRemote:
        """Where the commits are."""
        return open_remote(self.factory.settings)

    @cached_property
    def assessor(self) -> Assessor:
        """Evaluates heads."""
        settings = self.factory.settings
        return Assessor(settings, self.remote, self.host, partial(look_through, settings))

    @cached_property
    def remote_name(self) -> str:
        """The remote as runs name it."""
        settings = self.factory.settings
        return git.without_credentials(git.remote_url(settings.repo, settings.pull_requests.remote))

    def poll(self, context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """One tick.

        Raises:
            FactoryError: The remote or the host cannot be asked.
        """
        poll = _Poll(self, context, Tracking.read(context.cursor), time.time())
        heads = self.remote.heads()
        self.remote.fetch_target(heads.target, poll.until - time.monotonic())
        poll.compare(self._open(poll.tracking, heads.pull_requests, poll.now))
        poll.follow_runs()
        poll.end_superseded()
        poll.evaluate(heads.target)
        poll.close()
        poll.report()
        poll.reload()
        return poll.result()

    def _open(self, tracking: Tracking, heads: Mapping[int, str], now: float) -> dict[int, str]:
        """The heads of open pull requests. Refs alone are not enough where a host keeps those of closed ones."""
        if self.host is None:
            return dict(heads)
        refs = hashlib.sha256(repr(sorted(heads.items())).encode()).hexdigest()
        is_old = refs != tracking.refs or now - tracking.listed > _LISTING_SECONDS
        is_doubted = any(not missing.is_closed for missing in tracking.closed.values())
        if tracking.open_numbers is None or is_old or is_doubted:
            tracking.open_numbers = tuple(sorted(self.host.open_pull_requests()))
            tracking.refs, tracking.listed = refs, now
        return {number: heads[number] for number in tracking.open_numbers if number in heads}


class _Poll:
    """One tick: its state, and its results."""

    def __init__(
        self, watch: PullRequestPoll, context: dg.SensorEvaluationContext, tracking: Tracking, now: float
    ) -> None:
        self.tracking = tracking
        self.now = now
        self.until = time.monotonic() + _POLL_SECONDS
        location = context.code_location_origin.location_name if context.code_location_origin else ""
        self._watch = watch
        self._runs = PullRequestRuns(context.instance, watch.remote_name)
        self._images = NewImages(watch.factory, watch.known, location)
        self._reporter = Reporter(watch.host, watch.factory, context.instance, self._runs) if watch.host else None
        self._requests: list[dg.RunRequest] = []
        runs = InstanceRuns(context.instance, watch.factory.settings.host_patience_seconds)
        self._is_ending = runs.is_under_way(ENDING_JOB)
        self._cancel: list[str] = []
        self._remove: list[str] = []
        self._said: list[str] = []

    def compare(self, heads: Mapping[int, str]) -> None:
        """Record new heads and closed pull requests."""
        tracked, closed = self.tracking.pull_requests, self.tracking.closed
        for number, missing in closed.items():
            missing.is_closed = missing.is_closed or number not in heads
        for number in [number for number in tracked if number not in heads]:
            closed[number] = tracked.pop(number)  # and not more: what is missing for a moment loses nothing
            closed[number].evaluation.succeeded()
        for number, head in heads.items():
            before = closed.pop(number, None) or tracked.get(number)
            if before is None:
                tracked[number] = Tracked(head=head, seen=self.now)
            elif before.head != head or before.is_closed:
                tracked[number] = before.again(head, self.now)
                self._say(
                    number, f"is open again at {head[:8]}" if before.is_closed else f"has the new head {head[:8]}"
                )
            else:
                tracked[number] = before

    def follow_runs(self) -> None:
        """Read the runs that have changed since the last tick; of several for the same head the newest counts."""
        looked = self.tracking.runs_until
        self.tracking.runs_until = self.now
        for record in self._runs.updated_since(looked - _OVERLAP_SECONDS):
            run, created = record.dagster_run, record.create_timestamp.timestamp()
            tracked = self.tracking.pull_requests.get(number_of(run))
            if tracked is None or tracked.head != commit_of(run) or created < tracked.run_created:
                continue
            # A poll that the cursor does not know of has asked for it: the cursor is lost, or was not written.
            is_forgotten = seen_of(run) > looked and run.status is not dg.DagsterRunStatus.CANCELED
            if seen_of(run) == tracked.seen or is_forgotten:
                tracked.run, tracked.run_created, tracked.run_status = run.run_id, created, run.status.value
                tracked.phase, tracked.seen = "requested", seen_of(run)

    def end_superseded(self) -> None:
        """Request the cancellation of every run that is not for a current head."""
        if self._is_ending:
            return
        for run in self._runs.running():
            number = number_of(run)
            tracked, missing = self.tracking.pull_requests.get(number), self.tracking.closed.get(number)
            if tracked and tracked.head == commit_of(run) and tracked.seen == seen_of(run):
                continue
            if missing and not missing.is_closed:
                continue
            self._cancel.append(run.run_id)
            self._say(number, f"{'superseded' if tracked else 'closed'}: run {run.run_id[:8]} is to be canceled")

    def evaluate(self, target: str) -> None:
        """Evaluate heads that are new or due, and request their runs.

        Pull requests that are not admitted come last, the longest waiting first, so that strangers do not delay others.
        """
        until = time.monotonic() + _EVALUATION_SECONDS
        for number, tracked in self.tracking.in_order(
            lambda one: (one.phase == "refused", one.evaluation.until, one.seen)
        ):
            if tracked.phase not in ("waiting", "refused", "reload") or tracked.evaluation.until > self.now:
                continue
            if time.monotonic() > until:
                self._said.append("The others wait for the next poll.")
                break
            try:
                self._evaluate(number, tracked, target)
            except (Unreachable, OSError) as error:  # of this machine, or a service: the next poll tries again
                # A path of this machine is not for the page of a pull request.
                why = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
                tracked.note = f"it is evaluated again: {why}"
                tracked.evaluation.failed(self.now)
                self._say(number, tracked.note)
            except Exception as error:  # noqa: BLE001 - what a stranger has written must not stop the others
                tracked.phase = "invalid"
                tracked.note = f"it could not be evaluated: {type(error).__name__}"
                self._say(number, f"{tracked.note}: {error}")

    def _evaluate(self, number: int, tracked: Tracked, target: str) -> None:
        if tracked.phase == "reload" and not self._images.are_loaded(number):
            return
        changes = self._watch.assessor.assess(number, tracked, target, self.now, self.until)
        if changes is None:
            self._say(number, f"{tracked.phase}: {tracked.note.splitlines()[0] if tracked.note else ''}")
            return
        missing = unknown_images(changes.images, self._watch.known)
        if missing:
            names = ", ".join(image.id for image in missing)
            self._images.declare(number, missing)
            tracked.phase, tracked.note = "reload", f"Dagster has not loaded {names} yet"
            self._say(number, tracked.note)
            return
        tracked.phase = "requested"
        self._requests.append(self._runs.request(number, tracked, pull_request_to_do(self._watch.factory, changes)))
        self._say(number, f"{counted(len(changes.reasons), 'image')} at {tracked.head[:8]}: {tracked.note}")

    def close(self) -> None:
        """Forget closed pull requests once staging has none of their images; until then, request their removal."""
        until = time.monotonic() + _CLOSING_SECONDS
        for number, tracked in list(self.tracking.closed.items()):
            if not tracked.is_closed:
                continue
            if time.monotonic() > until:
                break
            try:
                self._close(number, tracked)
            except Exception as error:  # noqa: BLE001 - one pull request must not keep the others from being closed
                tracked.evaluation.failed(self.now)
                self._say(number, f"closed, but not removed yet: {type(error).__name__}: {error}")
        self._images.keep_only(self.tracking.pull_requests)

    def _close(self, number: int, tracked: Tracked) -> None:
        records = self._runs.of(number)
        if any(not record.dagster_run.is_finished for record in records):
            return
        builds = [build_number(record.dagster_run.run_id, record.create_timestamp) for record in records]
        left = [build for build in builds if not self._is_removed(build)]
        if left and not self._is_ending and tracked.evaluation.until <= self.now:
            tracked.evaluation.failed(self.now)  # until it is asked for again
            self._remove += left
            self._say(number, f"closed: {', '.join(left)} {'is' if len(left) == 1 else 'are'} to be removed")
        if left:
            return
        self._watch.remote.forget(number)
        self._said += self._reporter.report_closed(number, tracked) if self._reporter else []
        del self.tracking.closed[number]
        self._say(number, "closed; nothing of it is left")

    def _is_removed(self, build: str) -> bool:
        """Whether nothing of a build can be in staging any more."""
        try:
            record = self._watch.factory.backends.artifacts.build(build).read_build()
        except DamagedRecord:  # the removal repairs it
            return False
        return record is None or record.status in ENDED

    def report(self) -> None:
        """Report to the host."""
        self._said += self._reporter.report(self.tracking, self.now) if self._reporter else []

    def reload(self) -> None:
        """Reload the code location for new images. Comes last, because it replaces the process of this sensor."""
        reloaded = self._images.reload(self.tracking, self.now)
        self._said += [reloaded] if reloaded else []

    def result(self) -> dg.SensorResult:
        """For Dagster."""
        cursor = self.tracking.write()
        if self._cancel or self._remove:
            self._requests.append(
                dg.RunRequest(
                    job_name=ENDING_JOB,
                    run_config=operations_config(ENDED_BUILDS, cancel=self._cancel, remove=self._remove),
                )
            )
        if self._requests:
            return dg.SensorResult(run_requests=self._requests, cursor=cursor)
        return dg.SensorResult(skip_reason=dg.SkipReason(self._summary()), cursor=cursor)

    def _summary(self) -> str:
        phases = Counter(tracked.phase for tracked in self.tracking.pull_requests.values())
        summary = ", ".join(f"{count} {_PHASES[phase]}" for phase, count in sorted(phases.items())) or "none"
        return printable("\n".join([f"Open pull requests: {summary}.", *self._said[:_SHOWN_SENTENCES]]))

    def _say(self, number: int, sentence: str) -> None:
        self._said.append(f"#{number} {sentence}")


def pull_request_sensor(factory: Factory, images: Iterable[Image], jobs: Sequence[AssetJob]) -> dg.SensorDefinition:
    """The sensor.

    Args:
        factory: Settings and backends.
        images: The images that have assets.
        jobs: The jobs that it requests: builds, and the end of builds.
    """
    watch = PullRequestPoll(factory, {image.id: image.parents for image in images})

    @dg.sensor(
        name="pull_requests",
        description="Builds pull requests and reports their status.",
        jobs=jobs,
        minimum_interval_seconds=factory.settings.pull_requests.interval_seconds,
        default_status=sensor_status(factory.settings),
    )
    @skips_while_unreachable
    def pull_requests(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return watch.poll(context)

    return pull_requests
