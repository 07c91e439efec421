"""The test runner of the profile `azure`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from typing_extensions import override

from aml_images_dagster.errors import BadInput
from aml_images_dagster.testing.azure_ml.batch import Batch, end_jobs
from aml_images_dagster.testing.azure_ml.command import build_key
from aml_images_dagster.testing.azure_ml.job_state import ENDS, Timeouts
from aml_images_dagster.testing.azure_ml.sdk_version import newest, sdk, warning
from aml_images_dagster.testing.azure_ml.workspace import Workspace, load_sdk
from aml_images_dagster.testing.interface import TestRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Sequence

    from azure.core.credentials import TokenCredential

    from aml_images_dagster.settings.azure import AzureSettings
    from aml_images_dagster.testing.interface import JobResult, TestJob


class AzureMlRunner(TestRunner):
    """Runs scenarios as command jobs of an Azure ML workspace. Nothing is contacted before it is used.

    Args:
        settings: The workspace, and the time-outs.
        credential: Gives the credential.
    """

    kind = "Azure ML"

    def __init__(self, settings: AzureSettings, credential: Callable[[], TokenCredential]) -> None:
        self._settings = settings
        self._credential = credential
        self._workspace: Workspace | None = None
        self._timeouts = Timeouts(
            poll_seconds=settings.job_poll_seconds,
            queue_seconds=settings.job_queue_minutes * 60,
            silent_seconds=settings.job_silent_minutes * 60,
            cancel_seconds=settings.job_cancel_seconds,
        )

    def load(self) -> None:
        """See `TestRunner.load`."""
        load_sdk()

    def run(self, job: TestJob, log: Callable[[str], None]) -> JobResult:
        """See `TestRunner.run`.

        Raises:
            BadInput: The scenario cannot run on this operating system, or the service refuses the job.
            Unreachable: See `TestRunner.run`.
        """
        with closing(self.run_all([job], log)) as results:
            return next(results)

    def run_all(self, jobs: Sequence[TestJob], log: Callable[[str], None]) -> Generator[JobResult, None, None]:
        """See `TestRunner.run_all`. All jobs are submitted at once."""
        newest()  # is asked while the jobs run
        with Batch(self._connected(), jobs, self._settings.compute, self._timeouts, log) as batch:
            for result in batch.results():
                # A failure is not held up: all other jobs of the build end by it.
                yield replace(result, sdk=sdk(), warning=warning() if result.status == "passed" else "")

    def runs(self, platform: str) -> bool:
        """See `TestRunner.runs`. Machines of Azure ML have processors of this architecture alone."""
        return platform.split("/")[1] == "amd64"

    @override
    def check(self, computes: Collection[str], platforms: Collection[str] = ()) -> str:
        named = sorted({compute or self._settings.compute for compute in computes})
        if "" in named:
            raise BadInput(
                "no compute is named for the tests of an image",
                where="azure.compute",
                hint='Set it, or write "compute" into the tests.json of the image.',
            )
        self._connected().check(named)
        return f"{self.kind} workspace {self._settings.workspace}, compute {', '.join(named) or 'not needed'}"

    def cancel(self, build: str) -> list[str]:
        """See `TestRunner.cancel`. Ended jobs stay in the workspace's history.

        Raises:
            Unreachable: A job has not ended in time; it may be in CancelRequested for hours.
        """
        names = self.live(build)
        end_jobs(self._connected(), dict.fromkeys(names, build_key(build)), self._timeouts.cancel_seconds)
        return names

    @override
    def live(self, build: str) -> list[str]:
        return [job.name for job in self._connected().tagged(build_key(build)) if job.status not in ENDS]

    def _connected(self) -> Workspace:
        settings = self._settings
        missing = [name for name in ("subscription_id", "resource_group", "workspace") if not getattr(settings, name)]
        if missing:
            raise BadInput(
                f"not set: {', '.join(f'azure.{name}' for name in missing)}",
                where="settings",
                hint="They name the Azure ML workspace in which the tests run; AML_IMAGES_AZURE__WORKSPACE and so on.",
            )
        if self._workspace is None:
            self._workspace = Workspace(
                settings.subscription_id, settings.resource_group, settings.workspace, self._credential
            )
        return self._workspace
