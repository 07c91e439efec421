"""The control plane of Azure ML, as far as the SDK asks it on behalf of command jobs. It has one workspace.

Source: https://learn.microsoft.com/rest/api/azureml/ and the requests of azure-ai-ml itself. Jobs are not run here: an
executor does that, with the engine (`job_containers.py`) or by the clock (`clockwork.py`).
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from tests.emulators.azure.cloud import RESOURCE_GROUP, SUBSCRIPTION
from tests.emulators.azure.http_messages import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.emulators.azure.blob_storage import BlobStorage
    from tests.emulators.azure.cloud import EmulatedCloud
    from tests.emulators.azure.http_messages import Request

WORKSPACE = "experiments"
COMPUTE = "cpu-cluster"
ENDED = ("Completed", "Failed", "Canceled")
_SYSTEM_DATA = {"createdAt": "2026-01-01T00:00:00Z", "createdBy": "a test", "createdByType": "User"}
_PREFIX = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}"
    f"/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"
)


@dataclass
class EmulatedJob:
    """A job of the workspace.

    Attributes:
        name: Its name.
        properties: As they were sent.
        image: The image of its environment.
        code: The files that travel with it.
        status: As it is now.
        created: When it was submitted.
        started: When it began to run.
        ended: When it ended.
        error: Why it failed.
        stop: Set when somebody wants it to end.
    """

    name: str
    properties: dict[str, Any]
    image: str
    code: Mapping[str, bytes]
    status: str = "NotStarted"
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: datetime | None = None
    ended: datetime | None = None
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def nodes(self) -> int:
        """How many machines it runs on."""
        return int((self.properties.get("resources") or {}).get("instanceCount") or 1)


class Executor(Protocol):
    """What runs jobs."""

    def execute(self, job: EmulatedJob) -> tuple[bool, Mapping[str, bytes]]:
        """Run a job to its end, or until `job.stop` is set; whether it succeeded, and its log files by path."""


class MachineLearning:
    """The workspace, as a provider of Azure Resource Manager.

    Args:
        cloud: Where it is.
        blobs: Where code and logs are.
        executor: Runs the jobs.

    Attributes:
        jobs: By name.
        page: Jobs on a page of the list.
        lists: When False, the list is empty, as if it lagged behind.
        shows: A status that every job shows, whatever it does; empty for the truth.
        ends_canceled_jobs: When False, a job that is to be canceled stays in CancelRequested.
        environments: Images by the id of the environment.
        blobs: Its storage account.
    """

    def __init__(self, cloud: EmulatedCloud, blobs: BlobStorage, executor: Executor) -> None:
        self.jobs: dict[str, EmulatedJob] = {}
        self.page = 25
        self.lists = True
        self.shows = ""
        self.ends_canceled_jobs = True
        self.environments: dict[str, str] = {}
        self._codes: dict[str, dict[str, Any]] = {}
        self._arm, self.blobs, self._executor = cloud.arm, blobs, executor
        self._submitting = threading.Lock()
        cloud.environment |= {
            "AZUREML_DEV_URL_MFE": cloud.arm.url,
            "AML_IMAGES_AZURE__WORKSPACE": WORKSPACE,
            "AML_IMAGES_AZURE__COMPUTE": COMPUTE,
        }
        routes = {
            ("GET", ""): self._workspace,
            ("GET", r"/computes/(?P<name>[^/]+)"): self._compute,
            ("PUT", r"/environments/(?P<name>[^/]+)/versions/(?P<version>[^/]+)"): self._put_environment,
            ("GET", r"/codes/(?P<name>[^/]+)/versions"): self._find_codes,
            ("POST", r"/codes/(?P<name>[^/]+)/versions/(?P<version>[^/]+)/startPendingUpload"): self._start_upload,
            ("PUT", r"/codes/(?P<name>[^/]+)/versions/(?P<version>[^/]+)"): self._put_code,
            ("GET", r"/codes/(?P<name>[^/]+)/versions/(?P<version>[^/]+)"): self._get_code,
            ("GET", r"/jobs"): self._list,
            ("PUT", r"/jobs/(?P<name>[^/]+)"): self._put_job,
            ("GET", r"/jobs/(?P<name>[^/]+)"): self._get_job,
            ("POST", r"/jobs/(?P<name>[^/]+)/cancel"): self._cancel,
        }
        for (method, path), handle in routes.items():
            cloud.arm.route(method, re.escape(_PREFIX) + path, handle)
        history = re.escape(f"/history/v1.0{_PREFIX}")
        cloud.arm.route("GET", rf"{history}/runs/(?P<name>[^/]+)/details", self._details)
        cloud.arm.route("GET", "/discovery", lambda _: Answer(document={"api": cloud.arm.url}), anybody=True)

    def live(self) -> list[str]:
        """Names of the jobs that have not ended."""
        return [job.name for job in self.jobs.values() if job.status not in ENDED]

    def _workspace(self, request: Request) -> Answer:
        properties = {"workspaceId": "w-1", "discoveryUrl": f"{self._arm.url}/discovery"}
        document = {"id": _PREFIX, "name": WORKSPACE, "location": "eastus", "properties": properties}
        return Answer(document=document | {"type": "Microsoft.MachineLearningServices/workspaces"})

    def _compute(self, request: Request, name: str) -> Answer:
        if name != COMPUTE:
            return self._arm.error(404, "ResourceNotFound", f"There is no compute {name}.")
        scale = {"minNodeCount": 0, "maxNodeCount": 2}
        inner = {"vmSize": "STANDARD_D2", "vmPriority": "Dedicated", "scaleSettings": scale}
        properties = {"computeType": "AmlCompute", "provisioningState": "Succeeded", "properties": inner}
        return Answer(document={"id": f"{_PREFIX}/computes/{name}", "name": name, "properties": properties})

    def _put_environment(self, request: Request, name: str, version: str) -> Answer:
        identifier, sent = f"{_PREFIX}/environments/{name}/versions/{version}", request.json()
        self.environments[identifier] = sent["properties"]["image"]
        document = {"id": identifier, "name": version, "systemData": _SYSTEM_DATA, **sent}
        return Answer(201, document)

    def _find_codes(self, request: Request, name: str) -> Answer:
        wanted = request.query.get("hash")
        codes = [code for code in self._codes.values() if code["properties"]["properties"]["hash_sha256"] == wanted]
        return Answer(document={"value": codes})

    def _start_upload(self, request: Request, name: str, version: str) -> Answer:
        container = f"code-{name}"
        uri = self.blobs.create(container)
        credential = {"credentialType": "SAS", "sasUri": self.blobs.signed(container)}
        reference = {"blobUri": uri, "storageAccountArmId": "a", "credential": credential}
        kind = "TemporaryBlobReference"
        return Answer(document={"pendingUploadType": kind, "blobReferenceForConsumption": reference})

    def _put_code(self, request: Request, name: str, version: str) -> Answer:
        identifier = f"{_PREFIX}/codes/{name}/versions/{version}"
        document = {"id": identifier, "name": version, "systemData": _SYSTEM_DATA, **request.json()}
        self._codes[identifier] = document
        return Answer(201, document)

    def _get_code(self, request: Request, name: str, version: str) -> Answer:
        document = self._codes.get(f"{_PREFIX}/codes/{name}/versions/{version}")
        return Answer(document=document) if document else self._arm.error(404, "ResourceNotFound", name)

    def _list(self, request: Request) -> Answer:
        key = request.query.get("tag", "")
        jobs = [job for job in self.jobs.values() if self.lists and key in ("", *job.properties.get("tags", ()))]
        first = int(request.query.get("$skip") or 0)
        last = first + self.page
        document: dict[str, Any] = {"value": [self._shown(job) for job in jobs[first:last]]}
        if last < len(jobs):
            query = urlencode({**request.query, "$skip": last})
            document["nextLink"] = f"{self._arm.url}{_PREFIX}/jobs?{query}"
        return Answer(document=document)

    def _put_job(self, request: Request, name: str) -> Answer:
        sent = request.json()["properties"]
        image = self.environments.get(sent["environmentId"])
        code = self._codes.get(sent.get("codeId") or "")
        if image is None or code is None:
            return self._arm.error(400, "UserError", "The environment or the code does not exist.")
        with self._submitting:
            there = self.jobs.get(name)
            if there is None:
                there = self.jobs[name] = EmulatedJob(name, sent, image, self._files(code))
                threading.Thread(target=self._run, args=(there,), daemon=True).start()
                return Answer(201, self._shown(there))
        if there.properties != sent:
            return self._arm.error(400, "UserError", f"A job {name} exists and cannot be changed.")
        return Answer(200, self._shown(there))

    def _files(self, code: Mapping[str, Any]) -> dict[str, bytes]:
        """The files of a code asset, below the folder that was uploaded."""
        path = code["properties"]["codeUri"].removeprefix(f"{self.blobs.url}/")
        container, _, folder = path.partition("/")
        prefix = f"{folder}/" if folder else ""
        blobs = self.blobs.containers[container]
        return {name.removeprefix(prefix): blob.content for name, blob in blobs.items() if name.startswith(prefix)}

    def _run(self, job: EmulatedJob) -> None:
        try:
            succeeded, logs = self._executor.execute(job)
            container = f"logs-{job.name}"
            self.blobs.create(container)
            for path, content in logs.items():
                self.blobs.put(container, path, content)
            status = "Canceled" if job.stop.is_set() else "Completed" if succeeded else "Failed"
        except Exception as error:  # noqa: BLE001 - the failure of the executor is that of the job
            status, job.error = "Failed", f"The executor failed: {error!r}"
            if job.stop.is_set():  # what it worked on was taken away
                status, job.error = "Canceled", ""
        if status == "Failed" and not job.error:
            job.error = "Execution failed. User process exited with a status that is not 0."
        if status == "Canceled" and not self.ends_canceled_jobs:
            status = "CancelRequested"
        job.ended = datetime.now(UTC)
        job.status = status

    def _get_job(self, request: Request, name: str) -> Answer:
        job = self.jobs.get(name)
        if job is None:
            return self._arm.error(404, "ResourceNotFound", f"There is no job {name}.")
        return Answer(document=self._shown(job))

    def _cancel(self, request: Request, name: str) -> Answer:
        job = self.jobs.get(name)
        if job is None:
            return self._arm.error(404, "ResourceNotFound", f"There is no job {name}.")
        if job.status == "Finalizing":
            return self._arm.error(400, "UserError", "The job is in a state in which it cannot be canceled.")
        if job.status not in ENDED:
            job.status = "CancelRequested"
            job.stop.set()
        return Answer(202, headers={"Location": f"{self._arm.url}{_PREFIX}/jobs/{name}", "Retry-After": "1"})

    def _shown(self, job: EmulatedJob) -> dict[str, Any]:
        studio = {"jobServiceType": "Studio", "endpoint": f"https://ml.azure.example/runs/{job.name}?wsid={_PREFIX}"}
        properties = {**job.properties, "status": self.shows or job.status, "services": {"Studio": studio}}
        created = {**_SYSTEM_DATA, "createdAt": job.created.isoformat()}
        identifier = f"{_PREFIX}/jobs/{job.name}"
        return {"id": identifier, "name": job.name, "type": "jobs", "systemData": created, "properties": properties}

    def _details(self, request: Request, name: str) -> Answer:
        job = self.jobs[name]
        container = f"logs-{name}"
        paths = self.blobs.containers.get(container, {})
        document: dict[str, Any] = {
            "runId": name,
            "status": job.status,
            "logFiles": {path: self.blobs.signed(container, path) for path in paths},
            "inputDatasets": [],
            "outputDatasets": [],
        }
        if job.started:
            document["startTimeUtc"] = job.started.isoformat()
        if job.ended:
            document["endTimeUtc"] = job.ended.isoformat()
        if job.error:
            document["error"] = {"error": {"code": "UserError", "message": job.error}}
        return Answer(document=document)
