"""The emulated Kubernetes does what dagster_k8s/client.py of https://github.com/dagster-io/dagster relies on."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
import trustme

from tests.emulators.kubernetes import Kubernetes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aml_images_dagster.catalog.reference import Reference

pytestmark = pytest.mark.engine

JOBS = "/apis/batch/v1/namespaces/images/jobs"
PODS = "/api/v1/namespaces/images/pods"
ROLE = {
    "kind": "Role",
    "metadata": {"name": "launcher"},
    "rules": [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}],
}
BINDING = {
    "kind": "RoleBinding",
    "metadata": {"name": "launcher"},
    "roleRef": {"name": "launcher"},
    "subjects": [{"kind": "ServiceAccount", "name": "launcher"}],
}
SETTINGS = {"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"WHO": "world", "file.txt": "mounted\n"}}


class Client:
    """Asks the API with the token of an account."""

    def __init__(self, kubernetes: Kubernetes, authority: Path, account: str) -> None:
        self._kubernetes = kubernetes
        self._authority = str(authority)
        self._headers = {"Authorization": f"Bearer {kubernetes.token(account)}"}

    def ask(self, method: str, path: str, body: object = None) -> requests.Response:
        url = f"{self._kubernetes.url}{path}"
        return requests.request(method, url, json=body, headers=self._headers, verify=self._authority, timeout=30)

    def job(self, name: str) -> Any:
        return self.ask("GET", f"{JOBS}/{name}/status").json()["status"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Kubernetes, Client, Client]]:
    authority, pem = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    (tmp_path / "pods").mkdir()
    with Kubernetes(context, pem, tmp_path / "pods", "images") as kubernetes:
        kubernetes.apply([ROLE, BINDING, SETTINGS])
        yield kubernetes, Client(kubernetes, pem, "system:admin"), Client(kubernetes, pem, "launcher")


def job(name: str, image: Reference, script: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": str(image),
        "command": ["sh", "-c", script],
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "volumeMounts": [
            {"name": "shared", "mountPath": "/shared"},
            {"name": "settings", "mountPath": "/shared/file.txt", "subPath": "file.txt"},
        ],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    first = {**container, "name": "first", "command": ["sh", "-c", "echo hello $(WHO) > /shared/greeting"]}
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "initContainers": [first],
        "containers": [container],
        "volumes": [{"name": "shared", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "settings"}}],
        "securityContext": {"runAsUser": 10001, "fsGroup": 10001},
    }
    return {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}}


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_a_job_is_a_container_whose_end_is_its_own(
    cluster: tuple[Kubernetes, Client, Client], busybox: Reference
) -> None:
    kubernetes, admin, launcher = cluster
    scripts = {"good": "cat /shared/greeting /shared/file.txt; id -u", "bad": "exit 3"}
    for name, script in scripts.items():
        assert launcher.ask("POST", JOBS, job(name, busybox, script)).status_code == 201
    assert launcher.ask("POST", JOBS, job("good", busybox, "true")).status_code == 409
    assert wait_for(lambda: admin.job("good").get("succeeded")) == 1
    assert wait_for(lambda: admin.job("bad").get("failed")) == 1
    (pod,) = admin.ask("GET", f"{PODS}?labelSelector=job-name=good").json()["items"]
    assert pod["status"]["phase"] == "Succeeded"
    log = admin.ask("GET", f"{PODS}/{pod['metadata']['name']}/log?container=main").text
    assert log == "hello world\nmounted\n10001\n"
    (pod,) = admin.ask("GET", f"{PODS}?labelSelector=job-name=bad").json()["items"]
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert kubernetes.pods_of("good")[0].phase() == "Succeeded"


def test_a_pod_that_is_told_to_end_is_listed_until_it_has_ended(
    cluster: tuple[Kubernetes, Client, Client], busybox: Reference
) -> None:
    kubernetes, admin, launcher = cluster
    launcher.ask("POST", JOBS, job("long", busybox, "exec sleep 600"))
    (pod,) = wait_for(lambda: [p for p in kubernetes.pods_of("long") if p.phase() == "Running"])
    assert admin.job("long")["active"] == 1
    assert admin.ask("DELETE", f"{JOBS}/long").status_code == 200
    assert admin.ask("GET", f"{PODS}/{pod.name}").status_code == 200, "a pod outlives its job"
    assert admin.ask("DELETE", f"{PODS}/{pod.name}").status_code == 200
    wait_for(lambda: admin.ask("GET", f"{PODS}/{pod.name}").status_code == 404)


def test_a_pod_that_its_node_evicts_is_killed_and_its_job_has_failed(
    cluster: tuple[Kubernetes, Client, Client], busybox: Reference
) -> None:
    kubernetes, admin, launcher = cluster
    launcher.ask("POST", JOBS, job("long", busybox, "exec sleep 600"))
    (pod,) = wait_for(lambda: [p for p in kubernetes.pods_of("long") if p.phase() == "Running"])
    kubernetes.lose(pod)
    assert admin.job("long")["failed"] == 1
    status = admin.ask("GET", f"{PODS}/{pod.name}").json()["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")


def test_an_account_may_do_what_its_roles_allow(cluster: tuple[Kubernetes, Client, Client], busybox: Reference) -> None:
    kubernetes, admin, launcher = cluster
    assert launcher.ask("GET", JOBS).status_code == 403
    assert launcher.ask("DELETE", f"{PODS}/any").status_code == 403
    assert admin.ask("DELETE", f"{PODS}/any").status_code == 404
    kubernetes.identity.revoke_all()
    assert launcher.ask("POST", JOBS, job("good", busybox, "true")).status_code == 401
