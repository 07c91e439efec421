"""A workspace of Azure ML: the few calls of the SDK that are needed, and what its errors mean.

Importing this module does not import the SDK: that takes two seconds and 90 MB. Whatever is private in the SDK and
used all the same is used here and nowhere else.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aml_images_dagster.errors import BadInput
from aml_images_dagster.identity.faults import TIMEOUTS, fault, keep_out_of_logs, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Command, Job
    from azure.core.credentials import TokenCredential

AT_ONCE = 7
"""Requests that a process has on their way at the same time: with the thread that waits for them eight threads."""


@dataclass(frozen=True, slots=True)
class SeenJob:
    """A job as the service shows it.

    Attributes:
        name: Its name.
        status: As the service writes it.
        url: Its page in the Studio; empty when it has none.
        tags: Its tags.
    """

    name: str
    status: str
    url: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunDetails:
    """What the run history knows of a job.

    Attributes:
        error: Why it failed, in the service's words; empty when it did not.
        started: When it began to run.
        ended: When it ended.
        logs: URLs of its log files by their paths. They hold signatures: never to be printed.
    """

    error: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    logs: Mapping[str, str] = field(default_factory=dict, repr=False)


class Workspace:
    """One workspace. Nothing is contacted, and no SDK imported, before it is used; all threads may use it.

    Args:
        subscription_id: Where it is.
        resource_group: Where it is.
        name: Its name.
        credential: Gives the credential.
    """

    def __init__(
        self, subscription_id: str, resource_group: str, name: str, credential: Callable[[], TokenCredential]
    ) -> None:
        self.name = name
        self._place = (subscription_id, resource_group, name)
        self._credential = credential
        self._lock = threading.Lock()
        self._environments: dict[tuple[str, str], str] = {}
        self._registering = threading.Lock()
        _quieten()

    @property
    def client(self) -> MLClient:
        """The SDK's client."""
        with self._lock:  # cached_property has none
            return self._client

    @cached_property
    def _client(self) -> MLClient:
        from azure.ai.ml import MLClient
        from azure.ai.ml._utils import _asset_utils

        # It would start threads for each upload, beside those that upload for other jobs, and one for bars.
        _asset_utils.ThreadPoolExecutor = _InTurn  # type: ignore[assignment, attr-defined]
        _asset_utils.tqdm.monitor_interval = 0  # type: ignore[attr-defined]
        with self._explained("for a client"):
            # Only when it shows progress does the SDK notice that a file could not be uploaded; else it waits forever.
            return MLClient(self._credential(), *self._place, enable_telemetry=False, show_progress=True, **TIMEOUTS)

    def check(self, computes: Iterable[str]) -> None:
        """Make sure that the workspace and its computes exist and are accessible.

        Raises:
            BadInput: There is no such workspace or compute.
            Unreachable: The service does not answer, or refuses the request.
        """
        with self._explained("for the workspace"):
            if self._or_none(lambda: self.client.workspaces.get(self.name)) is None:
                raise BadInput(
                    f"there is no Azure ML workspace {self.name!r} in resource group {self._place[1]!r}",
                    where="azure.workspace",
                    hint="Correct azure.workspace, azure.resource_group and azure.subscription_id in the settings.",
                )
        for compute in computes:
            with self._explained(f"for the compute {compute}"):
                if self._or_none(partial(self.client.compute.get, compute)) is None:
                    raise BadInput(
                        f"the workspace {self.name} has no compute {compute!r}",
                        where="azure.compute or the compute of a tests.json",
                        hint="Create the cluster, or name an existing one: `az ml compute list`.",
                    )

    def environment(self, image: str, system: str) -> str:
        """The ID of the anonymous environment of an image; it is registered once.

        Args:
            image: Its reference. With a tag that has moved, the service would give the old one.
            system: `linux` or `windows`.

        Raises:
            BadInput: The service refuses it.
            Unreachable: The service does not answer, or refuses us.
        """
        from azure.ai.ml.entities import Environment

        with self._registering:
            if (image, system) not in self._environments:
                with self._explained(f"for an environment of {image}"):
                    made = self.client.environments.create_or_update(
                        Environment(image=image, os_type=system.capitalize())
                    )
                    self._environments[image, system] = str(made.id)
            return self._environments[image, system]

    def submit(self, command: Command) -> SeenJob:
        """Submit a job, with its code. A job that is there already is left as it is.

        Raises:
            BadInput: The service refuses the job.
            Unreachable: The service does not answer, or refuses the request.
        """
        from azure.core.exceptions import AzureError

        name = str(command.name)
        with self._explained(f"to submit {name}"):
            try:
                return _seen(self.client.jobs.create_or_update(command))
            except AzureError:
                # It may have arrived before the answer was lost, or have been submitted before, and a job that is
                # there cannot be changed.
                there = self.find(name)
                if there is None:
                    raise
                return there

    def find(self, name: str) -> SeenJob | None:
        """A job by its name; None when there is none.

        Raises:
            Unreachable: The service does not answer, or refuses the request.
        """
        with self._explained(f"for {name}"):
            job = self._or_none(lambda: self.client.jobs.get(name))
            return _seen(job) if job else None

    def tagged(self, key: str) -> list[SeenJob]:
        """All jobs that have a tag with this key.

        Raises:
            Unreachable: The service does not answer, or refuses the request.
        """
        with self._explained("for its jobs"):
            # The key is an argument that the SDK passes on without naming it. Jobs of kinds that it does not know
            # are None.
            return [_seen(job) for job in self.client.jobs.list(tag=key) if job]

    def cancel(self, name: str) -> None:
        """Request the cancellation of a job. It is no error if the job has ended already; check its status afterwards.

        Raises:
            Unreachable: The service does not answer, or refuses the request.
        """
        from azure.core.exceptions import HttpResponseError

        with self._explained(f"to cancel {name}"):
            try:
                # Without polling: the SDK's poller is a thread per job, and waits 30 s if it is told 0.
                self.client.jobs.begin_cancel(name, polling=False)
            except HttpResponseError as error:
                if error.status_code not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                    raise

    def details(self, name: str) -> RunDetails:
        """What the run history knows of a job.

        Raises:
            Unreachable: The service does not answer, or refuses the request.
        """
        with self._explained(f"for the history of {name}"):
            # The SDK shows errors and logs only by printing them.
            details = self.client.jobs._runs_operations.get_run_details(name)
            root = details.error.error if details.error else None
            return RunDetails(
                error=_one_line(root.message or root.code) if root else "",
                started=details.start_time_utc,
                ended=details.end_time_utc,
                logs=details.log_files or {},
            )

    def read_log(self, url: str, longest: int) -> str:
        """The end of a log file.

        Args:
            url: From `RunDetails.logs`.
            longest: Bytes that are read at most.

        Raises:
            Unreachable: The store does not answer.
        """
        from azure.storage.blob import BlobClient

        with self._explained("for a log"), BlobClient.from_blob_url(url, **TIMEOUTS) as blob:
            size = blob.get_blob_properties().size
            if not size:
                return ""
            text: bytes = blob.download_blob(offset=max(0, size - longest), length=longest).readall()
            return text.decode(errors="replace")

    def _or_none(self, ask: Callable[[], Any]) -> Any:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return ask()
        except ResourceNotFoundError:
            return None

    @contextmanager
    def _explained(self, asking: str) -> Iterator[None]:
        """Errors of the SDK in words for people. Their own texts may hold URLs with signatures."""
        from azure.ai.ml.exceptions import MlException
        from azure.core.exceptions import AzureError

        where = f"Azure ML workspace {self.name}"
        try:
            yield
        except AzureError as error:
            if getattr(error, "status_code", None) == HTTPStatus.BAD_REQUEST:
                raise BadInput(f"asked {asking}, the request was refused: {_plain(error)}", where=where) from None
            raise fault(error, where, asking, role="AzureML Data Scientist") from None
        except MlException as error:
            raise BadInput(f"asked {asking}, the SDK refused: {_plain(error)}", where=where) from None


def load_sdk() -> None:
    """Import the SDK, which takes two seconds and 90 MB, in a process whose forks will use it. It starts no thread."""
    _quieten()
    import azure.ai.ml.entities
    import azure.identity
    import azure.storage.blob  # noqa: F401


def _quieten() -> None:
    """Keep what the SDK says to itself out of logs; to be called before it is imported."""
    keep_out_of_logs()
    # Dozens, on what the SDK's own libraries will change; they cannot be avoided here.
    warnings.filterwarnings("ignore", module=r"azure\.ai\.ml|marshmallow")
    os.environ.setdefault("TQDM_DISABLE", "1")  # heeded when it is imported; its bars are not shown anywhere
    logging.getLogger("azure.ai.ml._utils._experimental").setLevel(logging.ERROR)


class _InTurn(Executor):
    """An executor without threads: a call is over when it is submitted."""

    def __init__(self, max_workers: int) -> None:
        """As that of the threads that it replaces."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `Executor.submit`."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is for whoever asks for the result
            future.set_exception(error)
        return future


def _seen(job: Job) -> SeenJob:
    # The same status is a text from some calls and a member of an enumeration from others.
    status = getattr(job.status, "value", job.status) or "Unknown"
    return SeenJob(str(job.name), str(status), job.studio_url or "", dict(job.tags or {}))


def _plain(error: Exception) -> str:
    return redacted(_one_line(getattr(error, "message", "") or str(error)))


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())[:500]
