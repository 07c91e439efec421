"""A `Builder` on ACR Tasks, through azure-mgmt-containerregistrytasks.

Sources: https://learn.microsoft.com/azure/container-registry/container-registry-tasks-overview and, for the requests,
https://learn.microsoft.com/rest/api/containerregistry/registries/schedule-run. Importing this module imports no SDK.

The service builds with the classic builder. A task whose only step runs an image with buildx builds with the BuildKit
of the agent's engine; sources: https://github.com/Azure/acr/tree/main/docs/tasks/buildx and, for the task,
https://learn.microsoft.com/azure/container-registry/container-registry-tasks-reference-yaml. The service expands
templates in a task and divides commands into words by rules of its own. So a task of ours says the same for each image,
and what differs is in a file of the source: https://docs.docker.com/build/bake/reference/.
"""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from aml_images_dagster.catalog.builder_features import CLASSIC, PLATFORM_ARGS, BuilderFeatures
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.acr_tasks.runs import TaskRuns, host_timed_out
from aml_images_dagster.engine.interface import Builder, EngineInfo, PushedImage
from aml_images_dagster.errors import BadInput, BuildFailed
from aml_images_dagster.identity.faults import TIMEOUTS
from aml_images_dagster.text import size_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from azure.mgmt.containerregistrytasks.models import (
        Credentials,
        DockerBuildRequest,
        EncodedTaskRunRequest,
        PlatformProperties,
        RunProperties,
    )

    from aml_images_dagster.engine.interface import BuildRequest, LogLine, OperatingSystem
    from aml_images_dagster.identity.credential import Credential
    from aml_images_dagster.identity.endpoints import Endpoints, RegistryId


_BAKE_FILE = "docker-bake.json"
_CONTEXT = "context"
_ONE_AGENT = "a task builds on one agent"


def write_source_archive(request: BuildRequest, target: Path, *, for_buildx: bool = False) -> None:
    """Write the archive of a request to `target`: the context, for buildx in a folder below what buildx is to do."""
    with (
        tarfile.open(request.context) as context,
        tarfile.open(target, "w:gz", format=tarfile.PAX_FORMAT) as archive,
    ):
        if for_buildx:
            file = tarfile.TarInfo(_BAKE_FILE)
            content = _bake_file(request).encode()
            file.size = len(content)
            archive.addfile(file, io.BytesIO(content))
        for member in context:
            content_of = context.extractfile(member) if member.isreg() else None
            if for_buildx:
                member.name = f"{_CONTEXT}/{member.name}"
            archive.addfile(member, content_of)


def _bake_file(request: BuildRequest) -> str:
    arguments = dict(request.build_args)
    if request.epoch is not None:
        arguments["SOURCE_DATE_EPOCH"] = str(request.epoch)
    if request.frontend:
        arguments["BUILDKIT_SYNTAX"] = request.frontend
    # Texts of such a file are templates, in which `${` and `%{` begin an expression and are written twice to mean
    # themselves. Source: https://github.com/hashicorp/hcl/blob/main/json/spec.md.
    written = {name: re.sub(r"([$%])\{", r"\1\1{", value) for name, value in arguments.items()}
    image = {
        "context": _CONTEXT,
        "dockerfile": request.dockerfile,
        "tags": [request.tag],
        "args": written,
        "platforms": [request.platform],
        "no-cache": request.no_cache,
    }
    return json.dumps({"target": {"default": image}})


# What the service takes as time-out of a run, in seconds. Source: Microsoft.ContainerRegistry/registries/tasks.
_SHORTEST_RUN, _LONGEST_RUN = 300, 28800


class AcrTasksBuilder(Builder):
    """Builds in the registry itself: it gets the context, and the image is never on this machine.

    Args:
        registry_id: Gives the resource id of the registry; runs push into it.
        os: Operating system of the agents.
        credential: The factory's identity.
        endpoints: Of the Azure cloud.
        agent_pool: A pool of dedicated agents; empty takes the shared ones.
        buildx: An image whose entry point is buildx; empty builds with the classic builder.
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
        buildx: str = "",
        poll_seconds: float = 5,
        cancel_seconds: float = 120,
    ) -> None:
        self._registry_id = registry_id
        self._os: OperatingSystem = os
        self._credential = credential
        self._endpoints = endpoints
        self._agent_pool = agent_pool
        self._buildx = buildx
        self._poll_seconds = poll_seconds
        self._cancel_seconds = cancel_seconds

    def info(self) -> EngineInfo:
        """See `Builder.info`. Asks for a place to upload to, which needs the same rights as a build."""
        with self._runs() as runs:
            runs.place_for_source()
        return EngineInfo(version="ACR Tasks", os=self._os, architecture="amd64", os_version=None)

    @override
    def features(self) -> BuilderFeatures:
        if not self._buildx:
            return replace(CLASSIC, builder="ACR Tasks", one_platform=f"{_ONE_AGENT}, without BuildKit")
        # An agent cannot be asked: this is what the BuildKit of Docker 20.10 can.
        oldest = frozenset({"RUN --mount", "COPY --chmod", "ADD --chmod", PLATFORM_ARGS})
        return BuilderFeatures("ACR Tasks with buildx", oldest, _ONE_AGENT)

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

        Raises:
            BadInput: The image wants secrets, which nobody gives to an agent.
        """
        if request.secrets or request.ssh:
            raise BadInput(
                "images that ACR Tasks build get no secrets and no ssh",
                where=request.tag,
                hint="Remove them from image.json, or build with an engine (azure.linux_builder).",
            )
        with self._runs() as runs:
            try:
                run = self._run(runs, request, log, still_wanted, started)
            except BuildFailed as failure:
                if not host_timed_out(failure):
                    raise
                log("the agent was too slow to start a container: building once more")
                run = self._run(runs, request, log, still_wanted, started)
        return PushedImage(_digest_of(run, request.tag), None)

    @override
    def abandon(self, tag: str, work: str | None) -> None:
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
            write_source_archive(request, archive, for_buildx=bool(self._buildx))
            log(f"uploading {size_in_words(archive.stat().st_size)} to {runs.where}")
            source = runs.upload(archive)
        still_wanted()
        scheduled = self._buildx_task(request, source) if self._buildx else self._docker_build(request, source)
        run_id = runs.schedule(scheduled, started)
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
        return models.DockerBuildRequest(
            image_names=[f"{tag.repository}:{tag.tag}"],
            is_push_enabled=True,
            no_cache=request.no_cache,
            docker_file_path=request.dockerfile,
            target=request.target,
            arguments=[models.Argument(name=name, value=value) for name, value in request.build_args.items()],
            timeout=_timeout(request),
            platform=self._platform(request),
            source_location=source,
            agent_pool_name=self._agent_pool or None,
            credentials=_credentials(request),
        )

    def _buildx_task(self, request: BuildRequest, source: str) -> EncodedTaskRunRequest:
        from azure.mgmt.containerregistrytasks import models

        step = {
            "cmd": f"{self._buildx} bake --push --progress=plain --file={_BAKE_FILE}",
            "env": ["BUILDX_NO_DEFAULT_ATTESTATIONS=1"],
        }
        # Without it, a step ends after ten minutes. JSON is YAML.
        task = json.dumps({"version": "v1.1.0", "stepTimeout": _timeout(request), "steps": [step]})
        return models.EncodedTaskRunRequest(
            encoded_task_content=base64.b64encode(task.encode()).decode(),
            timeout=_timeout(request),
            platform=self._platform(request),
            source_location=source,
            agent_pool_name=self._agent_pool or None,
            credentials=_credentials(request),
        )

    def _platform(self, request: BuildRequest) -> PlatformProperties:
        from azure.mgmt.containerregistrytasks import models

        _, architecture = request.platform.split("/")[:2]
        return models.PlatformProperties(os=self._os.capitalize(), architecture=architecture)

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


def _timeout(request: BuildRequest) -> int:
    return int(min(max(request.timeout_seconds, _SHORTEST_RUN), _LONGEST_RUN))


def _credentials(request: BuildRequest) -> Credentials:
    """Logins for what the image is FROM; the run is signed in to its own registry."""
    from azure.mgmt.containerregistrytasks import models

    own = Reference.parse(request.tag).registry
    return models.Credentials(
        source_registry=models.SourceRegistryCredentials(login_mode="Default"),
        custom_registries={
            host: models.CustomRegistryCredentials(
                user_name=models.SecretObject(type="Opaque", value=login.username),
                password=models.SecretObject(type="Opaque", value=login.password),
            )
            for host, login in request.logins.items()
            if host != own
        },
    )


def _digest_of(run: RunProperties, tag: str) -> str | None:
    """The digest of the image that a run pushed; None when the run does not list it."""
    wanted = Reference.parse(tag)
    for image in run.output_images or ():
        if (image.repository, image.tag) == (wanted.repository, wanted.tag):
            return image.digest
    return None
