"""A `Builder` on ACR Tasks, through azure-mgmt-containerregistrytasks.

Sources: https://learn.microsoft.com/azure/container-registry/container-registry-tasks-overview and, for the requests,
https://learn.microsoft.com/rest/api/containerregistry/registries/schedule-run. Importing this module imports no SDK.
"""

from __future__ import annotations

import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.builder_features import CLASSIC
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.acr_tasks.faults import host_timed_out
from aml_images_dagster.engine.acr_tasks.runs import TaskRuns
from aml_images_dagster.engine.interface import EngineInfo, PushedImage
from aml_images_dagster.errors import BuildFailed
from aml_images_dagster.identity.faults import TIMEOUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from azure.mgmt.containerregistrytasks.models import DockerBuildRequest, RunProperties

    from aml_images_dagster.catalog.builder_features import BuilderFeatures
    from aml_images_dagster.engine.interface import BuildRequest, LogLine, OperatingSystem
    from aml_images_dagster.identity.credential import Credential
    from aml_images_dagster.identity.endpoints import Endpoints
    from aml_images_dagster.identity.registry_id import RegistryId


def write_source_archive(request: BuildRequest, target: Path) -> None:
    """Write the archive of a request to `target`."""
    with (
        tarfile.open(request.context) as context,
        tarfile.open(target, "w:gz", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member in context:
            archive.addfile(member, context.extractfile(member) if member.isreg() else None)


# What the service takes as time-out of a run, in seconds. Source: Microsoft.ContainerRegistry/registries/tasks.
_SHORTEST_RUN, _LONGEST_RUN = 300, 28800


class AcrTasksBuilder:
    """Builds in the registry itself: it gets the context, and the image is never on this machine.

    Args:
        registry_id: Gives the resource id of the registry; runs push into it.
        os: Operating system of the agents.
        credential: The factory's identity.
        endpoints: Of the Azure cloud.
        agent_pool: A pool of dedicated agents; empty takes the shared ones.
        poll_seconds: Time between two polls of a run.
        cancel_seconds: How long a run that was canceled may take to end.
    """

    def __init__(
        self,
        registry_id: Callable[[], RegistryId],
        os: OperatingSystem,
        credential: Credential,
        endpoints: Endpoints,
        *,
        agent_pool: str = "",
        poll_seconds: float = 5,
        cancel_seconds: float = 120,
    ) -> None:
        self._registry_id = registry_id
        self._os: OperatingSystem = os
        self._credential = credential
        self._endpoints = endpoints
        self._agent_pool = agent_pool
        self._poll_seconds = poll_seconds
        self._cancel_seconds = cancel_seconds

    def info(self) -> EngineInfo:
        """See `Builder.info`. Asks for a place to upload to, which needs the same rights as a build."""
        with self._runs() as runs:
            runs.place_for_source()
        return EngineInfo(version="ACR Tasks", os=self._os, architecture="amd64", os_version=None)

    def features(self) -> BuilderFeatures:
        """See `Builder.features`."""
        return replace(CLASSIC, builder="ACR Tasks", one_platform="a task builds on one agent, without BuildKit")

    def build_and_push(
        self,
        request: BuildRequest,
        log: LogLine,
        *,
        still_wanted: Callable[[], None],
        started: Callable[[str], None],
        pushes: Callable[[str], None] = lambda _: None,
    ) -> PushedImage:
        """See `Builder.build_and_push`. The run is canceled when it is not wanted any more, and at its deadline.

        The network of the request has no meaning there.
        """
        with self._runs() as runs:
            try:
                run = self._run(runs, request, log, still_wanted, started)
            except BuildFailed as failure:
                if not host_timed_out(failure):
                    raise
                log("the agent was too slow to start a container: building once more")
                run = self._run(runs, request, log, still_wanted, started)
        return PushedImage(_digest_of(run, request.tag), None)

    def abandon(self, tag: str, work: str | None) -> None:
        """See `Builder.abandon`."""
        if work:
            with self._runs() as runs:
                runs.end(work)

    def sweep(self) -> int:
        """See `Builder.sweep`. Agents are thrown away after each run."""
        return 0

    def _run(
        self,
        runs: TaskRuns,
        request: BuildRequest,
        log: LogLine,
        still_wanted: Callable[[], None],
        started: Callable[[str], None],
    ) -> RunProperties:
        with tempfile.TemporaryDirectory(prefix="source-", dir=request.context.parent) as folder:
            archive = Path(folder) / "source.tar.gz"
            write_source_archive(request, archive)
            log(f"uploading {archive.stat().st_size / 1e6:.1f} MB to {runs.where}")
            source = runs.upload(archive)
        still_wanted()
        run_id = runs.schedule(self._docker_build(request, source), started)
        log(f"run {run_id} of {runs.where}")
        return runs.follow(
            run_id,
            request.tag,
            request.timeout_seconds,
            log,
            still_wanted,
            [login.password for login in request.logins.values()],
        )

    def _docker_build(self, request: BuildRequest, source: str) -> DockerBuildRequest:
        from azure.mgmt.containerregistrytasks import models

        tag = Reference.parse(request.tag)
        _, architecture = request.platform.split("/")[:2]
        logins = {
            host: models.CustomRegistryCredentials(
                user_name=models.SecretObject(type="Opaque", value=login.username),
                password=models.SecretObject(type="Opaque", value=login.password),
            )
            for host, login in request.logins.items()
            if host != tag.registry  # the run is signed in to its own registry
        }
        return models.DockerBuildRequest(
            image_names=[f"{tag.repository}:{tag.tag}"],
            is_push_enabled=True,
            no_cache=request.no_cache,
            docker_file_path=request.dockerfile,
            target=request.target,
            arguments=[models.Argument(name=name, value=value) for name, value in request.build_args.items()],
            timeout=int(min(max(request.timeout_seconds, _SHORTEST_RUN), _LONGEST_RUN)),
            platform=models.PlatformProperties(os=self._os.capitalize(), architecture=architecture),
            source_location=source,
            agent_pool_name=self._agent_pool or None,
            credentials=models.Credentials(
                source_registry=models.SourceRegistryCredentials(login_mode="Default"), custom_registries=logins
            ),
        )

    @contextmanager
    def _runs(self) -> Iterator[TaskRuns]:
        from azure.mgmt.containerregistrytasks import ContainerRegistryTasksMgmtClient

        registry = self._registry_id()
        with ContainerRegistryTasksMgmtClient(
            self._credential,
            registry.subscription_id,
            base_url=self._endpoints.management,
            credential_scopes=[self._endpoints.management_scope],
            **TIMEOUTS,
        ) as client:
            yield TaskRuns(client, registry.resource_group, registry.name, self._poll_seconds, self._cancel_seconds)


def _digest_of(run: RunProperties, tag: str) -> str | None:
    """The digest of the image that a run pushed; None when the run does not list it."""
    wanted = Reference.parse(tag)
    for image in run.output_images or ():
        if (image.repository, image.tag) == (wanted.repository, wanted.tag):
            return image.digest
    return None
