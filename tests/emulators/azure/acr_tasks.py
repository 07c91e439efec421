"""ACR Tasks: source archives, runs and their logs, of the emulated registries.

Linux agents really build, on the engine of this machine, and push into the emulated registry. Windows agents follow the
protocol only: they look for the Dockerfile in the archive and push an image without an operating system. Of encoded
tasks they know those that run buildx, with the words that our tasks have, in place of which they start that of this
machine.
Source: https://learn.microsoft.com/rest/api/containerregistry/registries/schedule-run.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import yaml

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.engine.interface import BuildRequest, RegistryLogin
from aml_images_dagster.errors import BuildFailed, FactoryError
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import DOCKER_MANIFEST
from tests.emulators.azure.arm_registries import REGISTRY
from tests.emulators.azure.http_messages import Answer, Request

if TYPE_CHECKING:
    from tests.emulators.azure.acr import Acr
    from tests.emulators.azure.blob_storage import BlobStorage
    from tests.emulators.azure.cloud import EmulatedCloud

CONTAINER = "tasks"
AGENT = RegistryLogin("agent", "the agents' own password")

_ENDED = ("Succeeded", "Failed", "Canceled", "Error", "Timeout")
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class _Cancelled(Exception):  # noqa: N818 - control flow inside of this module
    """The run was canceled while it built."""


@dataclass
class Run:
    """A run.

    Attributes:
        run_id: Its name.
        request: The body with which it was scheduled.
        status: One of RunStatus.
        error: What the service says of its failure.
        output: The images that it pushed.
        ended: Set when its agent does nothing any more.
    """

    run_id: str
    request: dict[str, Any]
    status: str = "Queued"
    error: str = ""
    output: list[dict[str, str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def document(self, path: str) -> dict[str, Any]:
        """As Azure Resource Manager shows it; credentials are not shown."""
        properties = {
            "runId": self.run_id,
            "status": self.status,
            "runType": "QuickBuild",
            "createTime": "2026-01-01T00:00:00Z",
            "platform": self.request["platform"],
            "customRegistries": list(self.request.get("credentials", {}).get("customRegistries", {})),
            "outputImages": self.output,
            "runErrorMessage": self.error,
            "provisioningState": "Succeeded",
        }
        return {"id": path, "name": self.run_id, "properties": properties}


class AcrTasks:
    """The resource types `registries/runs` and `registries/listBuildSourceUploadUrl`.

    Args:
        cloud: Whose registries.
        storage: Where archives and logs are.

    Attributes:
        runs: By id.
        agents: While it is not set, no agent takes a run.
        answers: While it is not set, nobody is told that a run was scheduled.
        lists_images: Whether runs name the images that they pushed.
        windows_log: What a Windows agent says, one text for each run; after the last one all is well.
        canceling: Whether runs that are asked to end do so.
    """

    def __init__(self, cloud: EmulatedCloud, storage: BlobStorage) -> None:
        self.runs: dict[str, Run] = {}
        self.agents = threading.Event()
        self.agents.set()
        self.answers = threading.Event()
        self.answers.set()
        self.lists_images = True
        self.windows_log: list[str] = []
        self.canceling = True
        self._cloud = cloud
        self._storage = storage
        storage.create(CONTAINER)
        for acr in cloud.registries.registries.values():
            acr.accounts[AGENT.username] = AGENT.password
        run = f"{REGISTRY}/runs/(?P<run_id>[^/]+)"
        cloud.arm.route("POST", f"{REGISTRY}/listBuildSourceUploadUrl", self._place)
        cloud.arm.route("POST", f"{REGISTRY}/scheduleRun", self._schedule)
        cloud.arm.route("GET", run, self._get)
        cloud.arm.route("POST", f"{run}/listLogSasUrl", self._log)
        cloud.arm.route("POST", f"{run}/cancel", self._cancel)

    def wait(self) -> None:
        """Wait until no agent does anything any more."""
        for run in list(self.runs.values()):
            assert run.ended.wait(60)

    def _place(self, request: Request, subscription: str, group: str, name: str) -> Answer:
        if name not in self._cloud.registries.registries:
            return self._unknown(f"registries/{name}")
        path = f"source/{uuid.uuid4().hex}.tar.gz"
        return Answer(document={"uploadUrl": self._storage.signed(CONTAINER, path), "relativePath": path})

    def _schedule(self, request: Request, subscription: str, group: str, name: str) -> Answer:
        run = Run(f"ca{len(self.runs) + 1}", request.json())
        self.runs[run.run_id] = run
        self._storage.put(CONTAINER, self._log_of(run), b"")
        threading.Thread(target=self._work, args=(run, self._cloud.registries.registries[name]), daemon=True).start()
        self.answers.wait(30)
        return Answer(document=run.document(request.path))

    def _get(self, request: Request, subscription: str, group: str, name: str, run_id: str) -> Answer:
        run = self.runs.get(run_id)
        return Answer(document=run.document(request.path)) if run else self._unknown(f"runs/{run_id}")

    def _log(self, request: Request, subscription: str, group: str, name: str, run_id: str) -> Answer:
        return Answer(document={"logLink": self._storage.signed(CONTAINER, self._log_of(self.runs[run_id]))})

    def _cancel(self, request: Request, subscription: str, group: str, name: str, run_id: str) -> Answer:
        run = self.runs[run_id]
        if self.canceling and run.status not in _ENDED:
            run.status = "Canceled"
        return Answer(200)

    def _unknown(self, what: str) -> Answer:
        return self._cloud.arm.error(
            404, "ResourceNotFound", f"The Resource 'Microsoft.ContainerRegistry/{what}' was not found."
        )

    def _work(self, run: Run, acr: Acr) -> None:
        try:
            self.agents.wait(60)
            if run.status == "Queued":
                run.status = "Running"
                self._build(run, acr)
                run.status = "Succeeded"
        except _Cancelled:
            pass
        except FactoryError as error:
            self._say(run, error.log if isinstance(error, BuildFailed) else "")
            run.error, run.status = error.what, "Failed"
        finally:
            run.ended.set()

    def _build(self, run: Run, acr: Acr) -> None:
        archive = gzip.decompress(self._storage.containers[CONTAINER][run.request["sourceLocation"]].content)
        if run.request["type"] == "EncodedTaskRunRequest":
            self._run_task(run, acr, archive)
            return  # the service knows the images of its own steps only
        build = self._on_windows if run.request["platform"]["os"] == "Windows" else self._on_linux
        tag = Reference.parse(f"{acr.host}/{run.request['imageNames'][0]}")
        digest = build(run, acr, tag, archive)
        if self.lists_images:
            named = {"registry": acr.host, "repository": tag.repository, "tag": tag.tag}
            run.output.append({**named, "digest": digest})

    def _on_linux(self, run: Run, acr: Acr, tag: Reference, archive: bytes) -> str:
        def log(line: str) -> None:
            self._say(run, line)
            if run.status == "Canceled":
                raise _Cancelled

        body, engine = run.request, DockerEngine()
        archive = self._reached(archive, body["dockerFilePath"])
        tag = Reference(acr.plain.host, tag.repository, tag.tag)
        logins = {
            host: RegistryLogin(given["userName"]["value"], given["password"]["value"])
            for host, given in body["credentials"].get("customRegistries", {}).items()
        }
        with tempfile.TemporaryDirectory() as folder:
            context = Path(folder) / "context.tar"
            context.write_bytes(archive)
            engine.build(
                BuildRequest(
                    context=context,
                    dockerfile=body["dockerFilePath"],
                    tag=str(tag),
                    platform=f"linux/{body['platform']['architecture']}",
                    timeout_seconds=body["timeout"],
                    build_args={argument["name"]: argument["value"] for argument in body["arguments"]},
                    no_cache=body["noCache"],
                    logins=logins,
                ),
                log,
            )
        try:
            if run.status == "Canceled":
                raise _Cancelled
            with contextlib.closing(docker.APIClient()) as client:
                for line in client.push(str(tag), stream=True, decode=True):
                    assert "error" not in line, line
            digest = acr.plain.digest(tag)
            assert digest is not None
            return digest
        finally:
            engine.forget(str(tag))

    def _run_task(self, run: Run, acr: Acr, archive: bytes) -> None:
        task = yaml.safe_load(base64.b64decode(run.request["encodedTaskContent"]))
        assert task["version"] == "v1.1.0"
        assert task["stepTimeout"] == run.request["timeout"]
        (step,) = task["steps"]
        image, *words = step["cmd"].split()
        assert image == f"{acr.host}/buildx"
        logins = {
            host: {"auth": base64.b64encode(f"{given['userName']['value']}:{given['password']['value']}".encode())}
            for host, given in run.request["credentials"].get("customRegistries", {}).items()
        }
        with tempfile.TemporaryDirectory() as folder:
            workspace, home = Path(folder) / "workspace", Path(folder) / "home"
            home.mkdir()
            (home / "config.json").write_text(json.dumps({"auths": logins}, default=bytes.decode))
            with tarfile.open(fileobj=io.BytesIO(self._reached(archive, "context/Dockerfile"))) as files:
                files.extractall(workspace)
            bake = workspace / "docker-bake.json"
            bake.write_text(bake.read_text().replace(acr.host, acr.plain.host))
            set_by_step = dict(variable.split("=", 1) for variable in step["env"])
            with subprocess.Popen(
                [str(Buildx().program), *words],
                cwd=workspace,
                env={**os.environ, "DOCKER_CONFIG": str(home), **set_by_step},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    self._say(run, line.rstrip())
                    if run.status == "Canceled":
                        process.terminate()
                        raise _Cancelled
        if process.returncode:
            raise BuildFailed("failed during run, err: exit status 1")

    def _reached(self, archive: bytes, dockerfile: str) -> bytes:
        """A context whose Dockerfile names the registries behind the emulated ones.

        An engine with the image store of containerd fetches no tokens from a host whose certificate is of a test.
        """
        reached = io.BytesIO()
        with tarfile.open(fileobj=io.BytesIO(archive)) as given, tarfile.open(fileobj=reached, mode="w") as files:
            for member in given:
                content = given.extractfile(member) if member.isreg() else None
                if content and member.name == dockerfile:
                    text = content.read()
                    for acr in (self._cloud.staging, self._cloud.production):
                        text = text.replace(acr.host.encode(), acr.plain.host.encode())
                    content, member.size = io.BytesIO(text), len(text)
                files.addfile(member, content)
        return reached.getvalue()

    def _on_windows(self, run: Run, acr: Acr, tag: Reference, archive: bytes) -> str:
        if self.windows_log:
            raise BuildFailed("failed during run, err: exit status 1", log=self.windows_log.pop(0))
        layer = io.BytesIO()
        with tarfile.open(fileobj=io.BytesIO(archive)) as given, tarfile.open(fileobj=layer, mode="w:gz") as files:
            assert run.request["dockerFilePath"] in given.getnames()
            for member in given:
                if member.isreg() and not member.name.startswith("."):
                    content = given.extractfile(member)
                    member.name = f"Files/{member.name}"
                    files.addfile(member, content)
        self._say(run, "this agent follows the protocol only")
        config = json.dumps({"os": "windows", "architecture": "amd64", "config": {}, "comment": str(uuid.uuid4())})
        blobs = []
        for body in (config.encode(), layer.getvalue()):
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            acr.plain.upload_blob(tag.repository, digest, body)
            blobs.append({"digest": digest, "size": len(body)})
        document = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {"mediaType": _CONFIG, **blobs[0]},
            "layers": [{"mediaType": _LAYER, **blobs[1]}],
        }
        content = json.dumps(document).encode()
        manifest = Manifest(f"sha256:{hashlib.sha256(content).hexdigest()}", DOCKER_MANIFEST, content)
        acr.plain.put_manifest(tag.repository, tag.tag, manifest)
        return manifest.digest

    def _say(self, run: Run, text: str) -> None:
        blob = self._storage.containers[CONTAINER][self._log_of(run)]
        self._storage.put(CONTAINER, self._log_of(run), blob.content + f"{text}\n".encode())

    @staticmethod
    def _log_of(run: Run) -> str:
        return f"logs/{run.run_id}.log"
