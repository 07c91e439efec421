"""Pull requests in Dagster: the runs that build them, the images that they add, and the run that ends them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from urllib.parse import urlsplit

import dagster as dg
from pydantic import Field

from aml_images_dagster.builds.housekeeping.cleanup import cleanup
from aml_images_dagster.defs.keys import BUILD_JOB, ENDED_BUILDS, OPERATIONS_GROUP
from aml_images_dagster.defs.operations.cleanup import log_report, observe_removed
from aml_images_dagster.defs.planning import ToDo
from aml_images_dagster.defs.pools import OPERATIONS_POOL
from aml_images_dagster.defs.request import (
    COMMIT_TAG,
    IMAGES_TAG,
    PULL_REQUEST_TAG,
    REMOTE_TAG,
    SEEN_TAG,
    TRIGGER_TAG,
    build_config,
    images_tag,
)
from aml_images_dagster.defs.run import Factory, failure
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.pull_requests.declaration import Declarations, DeclaredImage
from aml_images_dagster.pull_requests.tracking import Tracked, Tracking

_TRIGGER = "pull request"
_RUNNING = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)


class PullRequestRuns:
    """The runs of the pull requests of one remote; two code locations of an instance may have different ones.

    Args:
        instance: Where they are.
        remote: The remote, as runs name it.
    """

    def __init__(self, instance: dg.DagsterInstance, remote: str) -> None:
        self._instance = instance
        self._remote = remote
        self._tags = {TRIGGER_TAG: _TRIGGER, REMOTE_TAG: remote}

    def request(self, number: int, tracked: Tracked, requested: ToDo) -> dg.RunRequest:
        """Request a run for a head; Dagster starts no second one for the same head."""
        return dg.RunRequest(
            run_key=f"{self._remote} {number} {tracked.head} {tracked.seen}",
            job_name=BUILD_JOB,
            asset_selection=requested.keys,
            run_config=build_config(source_commit=tracked.head, **requested.options),
            tags={
                **self._tags,
                PULL_REQUEST_TAG: str(number),
                IMAGES_TAG: images_tag(requested.options["reasons"]),
                COMMIT_TAG: tracked.head,
                SEEN_TAG: str(tracked.seen),
            },
        )

    def running(self) -> Sequence[dg.DagsterRun]:
        """Those that have not ended and were not canceled."""
        return self._instance.get_runs(dg.RunsFilter(tags=self._tags, statuses=list(_RUNNING)))

    def updated_since(self, since: float) -> Sequence[dg.RunRecord]:
        """Those that have changed since a time, in seconds since the epoch; newest first."""
        updated_after = datetime.fromtimestamp(max(0, since), UTC)
        return self._instance.get_run_records(dg.RunsFilter(tags=self._tags, updated_after=updated_after))

    def of(self, number: int, commit: str = "") -> Sequence[dg.RunRecord]:
        """Those of one pull request, or of one commit of it; newest first."""
        wanted: Mapping[str, str] = {PULL_REQUEST_TAG: str(number), **({COMMIT_TAG: commit} if commit else {})}
        return self._instance.get_run_records(dg.RunsFilter(tags={**self._tags, **wanted}))


def number_of(run: dg.DagsterRun) -> int:
    """The number of the pull request that a run is for."""
    return int(run.tags[PULL_REQUEST_TAG])


def commit_of(run: dg.DagsterRun) -> str:
    """The commit that a run builds."""
    return run.tags[COMMIT_TAG]


def seen_of(run: dg.DagsterRun) -> float:
    """When the pull request was first seen open with that commit; see `Tracked.seen`."""
    return float(run.tags.get(SEEN_TAG, 0))


_RELOADS = 5
_NEVER_LOADED = (
    "Dagster does not load its images: the names of two images differ in punctuation only, "
    "images are built FROM each other, or the code location does not reload"
)


class NewImages:
    """What open pull requests have declared, and whether it is loaded.

    Args:
        factory: Settings and the artifacts store.
        known: The images that Dagster knows, each with its parents.
        location: Name of the code location.
    """

    def __init__(self, factory: Factory, known: Mapping[str, tuple[str, ...]], location: str) -> None:
        self._known = known
        self._location = location
        self._root = factory.backends.artifacts.root
        self._webserver = factory.settings.pull_requests.reload_url

    def declare(self, number: int, images: tuple[DeclaredImage, ...]) -> None:
        """Record what a pull request adds, in place of its last record."""
        self._write({**self._declared.images, number: images})

    def keep_only(self, numbers: Collection[int]) -> None:
        """Remove the records of all other pull requests."""
        self._write({number: images for number, images in self._declared.images.items() if number in numbers})

    def are_loaded(self, number: int) -> bool:
        """Whether Dagster knows all that a pull request has declared."""
        known = self._known
        return all(
            image.id in known and set(image.parents) & set(known) <= set(known[image.id])
            for image in self._declared.images.get(number, ())
        )

    def reload(self, tracking: Tracking, now: float) -> str:
        """Reload the code location if a pull request waits for it, with a limit for each; return the result.

        A pull request that waits for the first time does not wait for those whose reloads failed.
        """
        waiting = [
            tracked
            for number, tracked in tracking.pull_requests.items()
            if tracked.phase == "reload" and not self.are_loaded(number)
        ]
        for tracked in waiting:
            if tracked.reloads >= _RELOADS:
                tracked.phase, tracked.note = "invalid", _NEVER_LOADED
        waiting = [tracked for tracked in waiting if tracked.phase == "reload"]
        if not waiting:
            tracking.reload.succeeded()
            return ""
        if tracking.reload.until > now and all(tracked.reloads for tracked in waiting):
            return ""
        tracking.reload.failed(now)
        for tracked in waiting:
            tracked.reloads += 1
        try:
            reload_code_location(self._webserver, self._location)
        except Unreachable as fault:
            return str(fault)
        return "the code location is reloaded"

    @cached_property
    def _declared(self) -> Declarations:
        return Declarations.read(self._root)

    def _write(self, images: dict[int, tuple[DeclaredImage, ...]]) -> None:
        if images != self._declared.images:
            declarations = Declarations(images=images)
            declarations.write(self._root)
            self._declared = declarations  # not before it is kept: else nothing would try again


_SECONDS = 40
"""Shorter than the minute after which Dagster ends the tick of a sensor."""


def reload_code_location(webserver: str, location: str) -> None:
    """Load a code location again, so that it sees other images. Runs in progress keep the images that they have loaded.

    Args:
        webserver: Address of the webserver; one that asks for a sign-in does not answer.
        location: Name of the code location.

    Raises:
        Unreachable: The UI does not answer, or the location does not load.
    """
    from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError, ReloadRepositoryLocationStatus

    url = urlsplit(webserver)
    where = f"{url.hostname}{f':{url.port}' if url.port else ''}{url.path.rstrip('/')}"
    try:
        client = DagsterGraphQLClient(where, use_https=url.scheme == "https", timeout=_SECONDS)
        answer = client.reload_repository_location(location)
    except (DagsterGraphQLClientError, OSError) as error:
        raise Unreachable(
            "the Dagster UI does not answer, and only it can reload the code location",
            where=webserver,
            hint="Start it, or set pull_requests.webserver_url to its address, behind any sign-in.",
        ) from error
    if answer.status is not ReloadRepositoryLocationStatus.SUCCESS:
        raise Unreachable(f"the code location does not reload: {answer.message}", where=location)


class EndingOptions(dg.Config):
    """What the sensor of pull requests asks for."""

    cancel: list[str] = Field(default=[], description="Ids of runs to cancel; the cleanup ends their builds.")
    remove: list[str] = Field(default=[], description="Numbers of builds whose images leave staging.")


def ending_asset() -> dg.AssetsDefinition:
    """The asset that ends builds of pull requests. If one cannot be ended, the run fails and is requested again."""

    @dg.asset(
        key=ENDED_BUILDS,
        group_name=OPERATIONS_GROUP,
        description="Builds of pull requests that were superseded or closed: canceled, and removed from staging.",
        kinds={"git"},
        pool=OPERATIONS_POOL,
    )
    def ended_builds(
        context: dg.AssetExecutionContext, config: EndingOptions, factory: dg.ResourceParam[Factory]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        left = []
        for run_id in config.cancel:
            try:
                context.instance.run_coordinator.cancel_run(run_id)
                context.log.info(f"run {run_id} is canceled")
            except Exception as error:  # noqa: BLE001 - whatever a launcher raises must not keep the others
                left.append(f"run {run_id} cannot be canceled: {error!r}")
        for build in config.remove:
            report = cleanup(build, factory.backends, "expired")
            log_report(report, context.log)
            observe_removed(context.instance, [report])
            if not report.clean:
                left.append(f"build {build} cannot be removed completely")
        if left:
            raise failure("\n".join(left))
        return dg.MaterializeResult(
            metadata={
                "canceled": dg.MetadataValue.json(list(config.cancel)),
                "removed": dg.MetadataValue.json(list(config.remove)),
            }
        )

    return ended_builds
