"""A Kubernetes of one namespace whose pods are containers of this machine's engine.

It has what `kubectl apply` would be given: accounts, roles, config maps, secrets, services, deployments; and the
routes of jobs and pods that dagster-k8s asks for, over HTTPS, for who has the token of a service account that a role
allows it. There is no scheduler and no network of pods: all are on the network of the host, and a service is a name of
it. Network policies are not looked at.

Sources: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/, …/job-v1/,
https://kubernetes.io/docs/reference/access-authn-authz/rbac/, and /authorization/ for verbs.
"""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import APIError, NotFound
from docker.types import Mount

from tests.emulators.azure.http_messages import Answer
from tests.emulators.azure.managed_identity import ManagedIdentity
from tests.emulators.azure.service import AzureService

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

    from docker.models.containers import Container

    from tests.emulators.azure.http_messages import Request

Object = dict[str, Any]
ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
AUDIENCE = "https://kubernetes.default.svc"
ADMINISTRATOR = "system:admin"
CLUSTER_LABEL = "aml-images.tests.cluster"
GRACE_SECONDS = 30
_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/v1)/namespaces/(?P<namespace>[^/]+)/(?P<resource>[^/]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<part>[^/]+))?)?"
)


def now() -> str:
    """This moment, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Pod:
    """A pod.

    Attributes:
        name: Its name.
        owner: The job or deployment that it is of.
        labels: Its labels.
        spec: What it is to be.
        folder: Holds its volumes.
        containers: Those that were started, by name.
        created: When.
        deleted: When it was told to end; empty if it was not.
        reason: Why it has failed, if that is not its containers' doing.
    """

    name: str
    owner: str
    labels: Mapping[str, str]
    spec: Object
    folder: Path
    containers: dict[str, Container] = field(default_factory=dict)
    created: str = field(default_factory=now)
    deleted: str = ""
    reason: str = ""

    def states(self) -> dict[str, Object]:
        """What the engine knows of each container that was started."""
        found = {}
        for name, container in self.containers.items():
            with suppress(NotFound):
                container.reload()
                found[name] = container.attrs["State"]
        return found

    def phase(self) -> str:
        """Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase."""
        if self.reason:
            return "Failed"
        states = self.states()
        initial = [states.get(each["name"]) for each in self.spec.get("initContainers", ())]
        if any(state and not state["Running"] and state["ExitCode"] for state in initial):
            return "Failed"
        main = [states.get(each["name"]) for each in self.spec["containers"]]
        if not all(main):
            return "Pending"
        if any(state["Running"] or state["Restarting"] for state in main if state):
            return "Running"
        return "Failed" if any(state["ExitCode"] for state in main if state) else "Succeeded"

    def view(self, namespace: str) -> Object:
        """The object."""
        states = self.states()
        metadata = {"name": self.name, "namespace": namespace, "labels": dict(self.labels)}
        metadata |= {"uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, self.name)), "creationTimestamp": self.created}
        if self.deleted:
            metadata |= {"deletionTimestamp": self.deleted}
        status: Object = {"phase": self.phase(), "startTime": self.created, "conditions": []}
        if self.reason:
            status |= {"reason": self.reason, "message": "The node was low on resource: memory."}
        for kind, key in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
            status[key] = [_container_status(each, states.get(each["name"])) for each in self.spec.get(kind, ())]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self.spec, "status": status}


def _container_status(container: Object, state: Object | None) -> Object:
    running = bool(state and state["Running"])
    if not state:
        shown: Object = {"waiting": {"reason": "PodInitializing"}}
    elif running:
        shown = {"running": {"startedAt": f"{state['StartedAt'][:19]}Z"}}
    else:
        code = state["ExitCode"]
        reason = "OOMKilled" if state["OOMKilled"] else "Error" if code else "Completed"
        times = {"startedAt": f"{state['StartedAt'][:19]}Z", "finishedAt": f"{state['FinishedAt'][:19]}Z"}
        shown = {"terminated": {"exitCode": code, "reason": reason, **times}}
    of_image = {"name": container["name"], "image": container["image"], "imageID": ""}
    return {**of_image, "ready": running, "started": running, "restartCount": 0, "state": shown, "lastState": {}}


class Kubernetes(AzureService):
    """The cluster; with `with` it starts, and ends with all its containers.

    Args:
        certificate: With a certificate for 127.0.0.1.
        authority: PEM file of whom pods trust.
        folder: For the volumes of pods; containers of any user have to reach it.
        namespace: Its namespace.
    """

    def __init__(self, certificate: ssl.SSLContext, authority: Path, folder: Path, namespace: str) -> None:
        super().__init__(certificate, ManagedIdentity(life_seconds=86400), AUDIENCE)
        self.namespace = namespace
        self.objects: dict[tuple[str, str], Object] = {}
        self.pods: dict[str, Pod] = {}
        self.jobs: dict[str, Object] = {}
        self._authority = authority
        self._folder = folder
        self._id = secrets.token_hex(6)
        self._engine = docker.from_env()
        self._changing = threading.RLock()
        in_namespace = rf"/namespaces/{namespace}"
        jobs, pods = rf"/apis/batch/v1{in_namespace}/jobs", rf"/api/v1{in_namespace}/pods"
        self.route("POST", jobs, self._create_job)
        self.route("GET", jobs, lambda _: _listed("JobList", [self._job_view(name) for name in self.jobs]))
        self.route("GET", rf"{jobs}/(?P<name>[^/]+)(?:/status)?", self._get_job)
        self.route("DELETE", rf"{jobs}/(?P<name>[^/]+)", self._delete_job)
        self.route("GET", pods, self._list_pods)
        self.route("GET", rf"{pods}/(?P<name>[^/]+)", self._get_pod)
        self.route("DELETE", rf"{pods}/(?P<name>[^/]+)", self._delete_pod)
        self.route("GET", rf"{pods}/(?P<name>[^/]+)/log", self._log)
        self.route("POST", rf"{pods}/(?P<name>[^/]+)/eviction", self._delete_pod)
        self.route("GET", rf"/api/v1{in_namespace}/events", lambda _: _listed("EventList", []))

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        for container in self._engine.containers.list(
            ignore_removed=True, all=True, filters={"label": f"{CLUSTER_LABEL}={self._id}"}
        ):
            with suppress(APIError):
                container.remove(force=True, v=True)
        self._engine.close()

    def token(self, account: str = ADMINISTRATOR) -> str:
        """A token of a service account, or of the administrator."""
        return self.identity.issue(AUDIENCE, account)

    def apply(self, objects: Iterable[Object]) -> None:
        """Make what manifests describe. Deployments come last, as they need the others."""
        for each in objects:
            self.objects[each["kind"], each["metadata"]["name"]] = each
        for each in objects:
            if each["kind"] == "Deployment":
                name, template = each["metadata"]["name"], each["spec"]["template"]
                self._start(f"{name}-{secrets.token_hex(3)}", name, template)

    def pods_of(self, owner: str) -> list[Pod]:
        """The pods of a job or a deployment."""
        return [pod for pod in self.pods.values() if pod.owner == owner]

    def lose(self, pod: Pod) -> None:
        """Evict a pod as a node does that runs out of memory: its containers are killed without a signal before.

        Source: https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#hard-eviction-thresholds
        """
        pod.reason = "Evicted"
        for container in pod.containers.values():
            with suppress(APIError):
                container.kill()

    def refuse(self, request: Request) -> Answer | None:
        """What is answered to who has no token, or no role that allows the request."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self.identity.accepts(token, AUDIENCE):  # clients write it either way
            return self.error(401, "Unauthorized", "Unauthorized")
        account = self.identity.issued[token].client_id
        asked = _PATH.fullmatch(request.path)
        if asked is None or account == ADMINISTRATOR:
            return None
        verb = {"POST": "create", "DELETE": "delete", "GET": "get" if asked["name"] else "list"}[request.method]
        resource = "/".join(filter(None, (asked["resource"], asked["part"])))
        if any(
            (asked["group"] or "") in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
            for rule in self._rules(account)
        ):
            return None
        return self.error(403, "Forbidden", f'"{account}" cannot {verb} resource "{resource}"')

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
        """An error as Kubernetes writes it."""
        document = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": code, "message": message}
        return Answer(status, {**document, "code": status}, headers or {})

    def _rules(self, account: str) -> Iterable[Object]:
        for (kind, _), binding in list(self.objects.items()):
            if kind == "RoleBinding" and account in {subject["name"] for subject in binding["subjects"]}:
                yield from self.objects["Role", binding["roleRef"]["name"]]["rules"]

    def _create_job(self, request: Request) -> Answer:
        job = request.json()
        name = job["metadata"]["name"]
        with self._changing:
            if name in self.jobs:
                return self.error(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
            job["metadata"] |= {"namespace": self.namespace, "uid": str(uuid.uuid4()), "creationTimestamp": now()}
            self.jobs[name] = job
        template = job["spec"]["template"]
        template.setdefault("metadata", {}).setdefault("labels", {})["job-name"] = name
        self._start(f"{name}-{secrets.token_hex(3)}", name, template)
        return Answer(201, self._job_view(name))

    def _job_view(self, name: str) -> Object:
        """With the status that the controller of jobs gives it. A pod that is told to end has failed, and none follows:
        `backoffLimit` is 0.
        """
        job = self.jobs[name]
        pods = self.pods_of(name)
        phase = pods[0].phase() if pods and not pods[0].deleted else "Failed"
        status: Object = {"startTime": job["metadata"]["creationTimestamp"]}
        if phase in ("Pending", "Running"):
            status |= {"active": 1}
        elif phase == "Succeeded":
            status |= {"succeeded": 1, "completionTime": now(), "conditions": [_condition("Complete", "")]}
        else:
            status |= {"failed": 1, "conditions": [_condition("Failed", "BackoffLimitExceeded")]}
        return {**job, "status": status}

    def _get_job(self, _: Request, name: str) -> Answer:
        if name not in self.jobs:
            return self.error(404, "NotFound", f'jobs.batch "{name}" not found')
        return Answer(200, self._job_view(name))

    def _delete_job(self, _: Request, name: str) -> Answer:
        with self._changing:
            if self.jobs.pop(name, None) is None:
                return self.error(404, "NotFound", f'jobs.batch "{name}" not found')
        return Answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _list_pods(self, request: Request) -> Answer:
        owner = request.query.get("labelSelector", "").removeprefix("job-name=")
        name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        found = [p for p in list(self.pods.values()) if owner in ("", p.owner) and name in ("", p.name)]
        return _listed("PodList", [pod.view(self.namespace) for pod in found])

    def _get_pod(self, _: Request, name: str) -> Answer:
        if name not in self.pods:
            return self.error(404, "NotFound", f'pods "{name}" not found')
        return Answer(200, self.pods[name].view(self.namespace))

    def _delete_pod(self, _: Request, name: str) -> Answer:
        """It is listed until its containers have ended; they are told to, and killed if they do not in time."""
        pod = self.pods.get(name)
        if pod is None:
            return self.error(404, "NotFound", f'pods "{name}" not found')
        if not pod.deleted:
            pod.deleted = now()
            threading.Thread(target=self._end, args=(pod,), daemon=True).start()
        return Answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _log(self, request: Request, name: str) -> Answer:
        container = self.pods[name].containers.get(request.query.get("container", "")) if name in self.pods else None
        if container is None:
            return self.error(400, "BadRequest", f'container in pod "{name}" is waiting to start')
        text = container.logs(tail=int(request.query.get("tailLines") or 1000))
        return Answer(200, headers={"Content-Type": "text/plain"}, content=text)

    def _end(self, pod: Pod) -> None:
        grace = int(pod.spec.get("terminationGracePeriodSeconds") or GRACE_SECONDS)
        for container in reversed(pod.containers.values()):
            with suppress(APIError):
                container.stop(timeout=grace)
            with suppress(APIError):
                container.remove(force=True, v=True)
        self.pods.pop(pod.name, None)

    def _start(self, name: str, owner: str, template: Object) -> None:
        folder = self._folder / name
        folder.mkdir(parents=True)
        labels = template.get("metadata", {}).get("labels") or {}
        pod = self.pods[name] = Pod(name, owner, labels, template["spec"], folder)
        threading.Thread(target=self._run, args=(pod,), daemon=True).start()

    def _run(self, pod: Pod) -> None:
        volumes = {volume["name"]: self._volume(pod, volume) for volume in pod.spec.get("volumes") or ()}
        for container in pod.spec.get("initContainers") or ():
            started = self._run_container(pod, container, volumes, restart=False)
            if started.wait()["StatusCode"]:
                return
        restart = pod.spec.get("restartPolicy", "Always") == "Always"
        for container in pod.spec["containers"]:
            if not pod.deleted:
                self._run_container(pod, container, volumes, restart=restart)

    def _run_container(self, pod: Pod, spec: Object, volumes: Mapping[str, Path], *, restart: bool) -> Container:
        environment = self._environment(pod, spec)
        confined = {**(pod.spec.get("securityContext") or {}), **(spec.get("securityContext") or {})}
        mounts = []
        for each in spec.get("volumeMounts") or ():
            source = volumes[each["name"]] / (each.get("subPath") or "")
            mounts.append(Mount(each["mountPath"], str(source), "bind", bool(each.get("readOnly"))))
        mounts.sort(key=lambda mount: mount["Target"])  # as container runtimes do: one may be inside of another
        account = pod.spec.get("serviceAccountName") or "default"
        mounts.append(Mount(ACCOUNT_FOLDER, str(self._account(account)), "bind", read_only=True))
        asked = (confined.get("fsGroup"), *(confined.get("supplementalGroups") or ()))
        groups = [str(group) for group in asked if group is not None]  # that of root is 0
        limits = (spec.get("resources") or {}).get("limits") or {}
        started = self._engine.containers.create(
            spec["image"],
            entrypoint=_expanded(spec.get("command"), environment),
            command=_expanded(spec.get("args"), environment),
            environment=environment,
            hostname=pod.name[:63],
            network_mode="host",
            extra_hosts={service: "127.0.0.1" for kind, service in self.objects if kind == "Service"},
            labels={CLUSTER_LABEL: self._id},
            mounts=mounts,
            user=str(confined.get("runAsUser", "")),
            group_add=groups,
            read_only=bool(confined.get("readOnlyRootFilesystem")),
            cap_drop=(confined.get("capabilities") or {}).get("drop") or [],
            security_opt=["no-new-privileges:true"] if confined.get("allowPrivilegeEscalation") is False else [],
            mem_limit=limits.get("memory", "").lower().removesuffix("i") or None,
            restart_policy={"Name": "always"} if restart else None,
        )
        pod.containers[spec["name"]] = started
        started.start()
        return started

    def _volume(self, pod: Pod, volume: Object) -> Path:
        """Source: https://kubernetes.io/docs/concepts/storage/volumes/."""
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        folder = pod.folder / volume["name"]
        folder.mkdir()
        if "configMap" in volume:
            for name, text in self.objects["ConfigMap", volume["configMap"]["name"]]["data"].items():
                (folder / name).write_text(text)
            return folder
        if "emptyDir" not in volume:
            raise NotImplementedError(f"a volume {volume}")
        group = (pod.spec.get("securityContext") or {}).get("fsGroup")
        if group:
            shutil.chown(folder, group=group)
        folder.chmod(0o2777)
        return folder

    def _account(self, account: str) -> Path:
        folder = self._folder / f"account-{account}"
        with self._changing:
            if not folder.exists():
                folder.mkdir()
                content = {"token": self.token(account), "namespace": self.namespace}
                for name, text in {**content, "ca.crt": self._authority.read_text()}.items():
                    (folder / name).write_text(text)
        return folder

    def _environment(self, pod: Pod, spec: Object) -> dict[str, str]:
        """Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables."""
        host, _, port = self.host.partition(":")
        found = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        services = [each for (kind, _), each in self.objects.items() if kind == "Service"]
        for service in services if pod.spec.get("enableServiceLinks", True) else ():
            name = service["metadata"]["name"].upper().replace("-", "_")
            number = str(service["spec"]["ports"][0]["port"])
            found |= {f"{name}_SERVICE_HOST": "127.0.0.1", f"{name}_SERVICE_PORT": number}
            found |= {f"{name}_PORT": f"tcp://127.0.0.1:{number}"}
        for source in spec.get("envFrom") or ():
            kind, name = next(
                (kind, source[key]["name"])
                for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret"))
                if source.get(key)
            )
            each = self.objects[kind, name]
            found |= each.get("stringData" if kind == "Secret" else "data", {})
        for each in spec.get("env") or ():
            found[each["name"]] = each.get("value") or ""
        return found


def _listed(kind: str, items: list[Object]) -> Answer:
    return Answer(200, {"apiVersion": "v1", "kind": kind, "metadata": {}, "items": items})


def _condition(kind: str, reason: str) -> Object:
    times = {"lastTransitionTime": now(), "lastProbeTime": now()}
    return {"type": kind, "status": "True", "reason": reason, "message": reason, **times}


def _expanded(words: list[str] | None, environment: Mapping[str, str]) -> list[str] | None:
    """`$(NAME)` in commands is a variable of the container; one that is not there stays as it is."""
    if not words:
        return None
    return [re.sub(r"\$\((\w+)\)", lambda found: environment.get(found[1], found[0]), word) for word in words]
