"""deploy/kubernetes really runs: code server, webserver and daemon, and a pod for each run, on an emulated Kubernetes.

The manifests are those of the repository, but for addresses, what pods mount of this machine (the engine that builds,
and the artifacts, which are on a disk in the profile `local`), and the webserver for those who only read.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import trustme
import yaml

from aml_images_dagster.catalog.reference import Reference
from tests.deployed.compose import free_ports
from tests.deployed.site import Scene, Site, wait_for
from tests.emulators.kubernetes import Kubernetes, Pod
from tests.image_repository import ImageRepository
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from aml_images_dagster.registry.oci import OciRegistry

pytestmark = [pytest.mark.engine, pytest.mark.services, pytest.mark.deployed]

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
NAMESPACE = "aml-images"
SUFFIX = "-kubernetes"


@dataclass(kw_only=True)
class Cluster(Scene):
    """A factory on Kubernetes.

    Attributes:
        kubernetes: The cluster.
        authority: PEM file of whom its clients trust.
    """

    kubernetes: Kubernetes
    authority: Path

    def pod_of(self, run_id: str) -> Pod:
        """The pod of a run."""
        (pod,) = self.kubernetes.pods_of(f"dagster-run-{run_id}")
        return pod

    def ask(self, method: str, path: str, token: str, **body: object) -> int:
        """The status with which the API answers."""
        url = f"{self.kubernetes.url}{path}"
        headers = {"Authorization": f"Bearer {token}"}
        return requests.request(
            method, url, json=body, headers=headers, verify=str(self.authority), timeout=30
        ).status_code


def manifests(replaced: dict[str, str], mounted: dict[str, Path], settings: dict[str, str]) -> list[dict[str, Any]]:
    """The objects of deploy/kubernetes.

    Args:
        replaced: Texts in the files, and what stands there instead.
        mounted: Folders and files of this machine that all pods see at the same path, by name of the volume.
        settings: Further variables.
    """
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
    objects = []
    for name in kustomization["resources"]:
        text = (FOLDER / name).read_text("utf-8")
        for old, new in replaced.items():
            text = text.replace(old, new)
        objects += yaml.safe_load_all(text)
    objects = [each for each in objects if each["metadata"]["name"] != "aml-images-webserver-read-only"]
    (image,) = kustomization["images"]
    for each in objects:
        if each["kind"] == "Deployment":
            pod = each["spec"]["template"]["spec"]
            pod["volumes"] += [{"name": n, "hostPath": {"path": str(path)}} for n, path in mounted.items()]
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                assert container["image"] == image["name"]
                container["image"] = f"{image['newName']}:{image['newTag']}"
                container["volumeMounts"] += [{"name": n, "mountPath": str(p)} for n, p in mounted.items()]
            pod["securityContext"]["supplementalGroups"] = [docker_group()]
    named = {each["metadata"]["name"]: each for each in objects if each["kind"] == "ConfigMap"}
    named["aml-images-settings"]["data"] |= settings
    instance = yaml.safe_load(named["aml-images-instance"]["data"]["dagster.yaml"])
    run = instance["run_launcher"]["config"]["run_k8s_config"]
    pod = run["pod_spec_config"]
    pod["security_context"]["supplemental_groups"] = [docker_group()]
    pod["volumes"] += [{"name": n, "host_path": {"path": str(path)}} for n, path in mounted.items()]
    run["container_config"]["volume_mounts"] += [{"name": n, "mount_path": str(p)} for n, p in mounted.items()]
    named["aml-images-instance"]["data"]["dagster.yaml"] = yaml.safe_dump(instance)
    return objects


def docker_group() -> int:
    return Path("/var/run/docker.sock").stat().st_gid


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory,
    factory_image_with_launchers: str,
    staging: OciRegistry,
    production: OciRegistry,
    engine_client: docker.DockerClient,
) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("kubernetes")
    code, web, git = free_ports(3)
    repository = ImageRepository.create(root / "repository", staging.host, production.host, SUFFIX)
    empty(staging, repository)
    served = ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={git}", f"--base-path={root}"]
    secret = {"AML_IMAGES_REPOSITORY": f"git://127.0.0.1:{git}/repository/.git"}
    artifacts, bundle = root / "artifacts", root / "authorities.pem"
    artifacts.mkdir()
    artifacts.chmod(0o777)  # pods have another user
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(bundle))
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(certificate)
    with PostgresServer() as postgres:
        settings = {
            "AML_IMAGES_PROFILE": "local",
            "AML_IMAGES_BUILDER": "",
            "AML_IMAGES_ARTIFACTS": str(artifacts),
            "PGPORT": postgres.environment["PGPORT"],
            "PGDATABASE": postgres.environment["PGDATABASE"],
            "PGSSLMODE": "disable",
        }
        database = {name: postgres.environment[name] for name in ("PGHOST", "PGUSER", "PGPASSWORD")}
        objects = [
            {"kind": "Secret", "metadata": {"name": "aml-images-postgres"}, "stringData": database},
            {"kind": "Secret", "metadata": {"name": "aml-images-secrets"}, "stringData": secret},
            *manifests(
                {"4266": str(code), "3000": str(web)},
                {"engine": Path("/var/run/docker.sock"), "artifacts": artifacts},
                settings,
            ),
        ]
        (root / "pods").mkdir()
        daemon = subprocess.Popen(served, stderr=subprocess.DEVNULL)
        try:
            with Kubernetes(certificate, bundle, root / "pods", NAMESPACE) as kubernetes:
                kubernetes.apply(objects)
                site = Site(f"http://127.0.0.1:{web}")
                found = Cluster(site, repository, staging, engine_client, kubernetes=kubernetes, authority=bundle)
                try:
                    wait_for(found.site.is_loaded, "the code location is loaded")
                    yield found
                finally:
                    write_logs(kubernetes)
        finally:
            daemon.terminate()
            daemon.wait(10)
            empty(staging, repository)


def write_logs(kubernetes: Kubernetes) -> None:
    """For who looks for the reason of a failure."""
    folder = Path(os.environ.get("PYTEST_DEBUG_TEMPROOT", "/tmp")) / "pods"
    folder.mkdir(exist_ok=True)
    for pod in list(kubernetes.pods.values()):
        for name, container in pod.containers.items():
            (folder / f"{pod.name}-{name}.log").write_bytes(container.logs())


def empty(registry: OciRegistry, repository: ImageRepository) -> None:
    for family in repository.families.values():
        for tag in registry.tags(family):
            registry.delete(Reference(registry.host, family, tag))


def test_a_build_is_a_pod(cluster: Cluster) -> None:
    image = cluster.change("apps/hello", "echo running\n")
    run_id = cluster.site.build(images=[image])
    done = cluster.site.ended(run_id)
    assert done["status"] == "SUCCESS", done["errors"]
    pod = cluster.pod_of(run_id)
    wait_for(lambda: pod.phase() == "Succeeded", "the pod ends")
    assert pod.labels["dagster/run-id"] == run_id
    build = cluster.site.tags(run_id)["aml-images/build"]
    assert len([tag for tag in cluster.left_of(build) if "hello" in tag]) == 1


def test_a_build_that_fails_leaves_nothing(cluster: Cluster) -> None:
    image = cluster.change("apps/hello", "exit 3\n")
    run_id = cluster.site.build(images=[image])
    done = cluster.site.ended(run_id)
    assert done["status"] == "FAILURE"
    assert any("runs" in error for error in done["errors"]), done["errors"]
    cluster.nothing_is_left(cluster.site.tags(run_id)["aml-images/build"])


def test_a_build_that_is_terminated_leaves_nothing(cluster: Cluster) -> None:
    run_id, build = cluster.start_sleeping_build(60)
    pod = cluster.pod_of(run_id)
    cluster.site.terminate(run_id)
    assert cluster.site.ended(run_id)["status"] == "CANCELED"
    cluster.nothing_is_left(build)
    wait_for(lambda: pod.name not in cluster.kubernetes.pods, "the pod is gone")
    assert f"dagster-run-{run_id}" not in cluster.kubernetes.jobs


def test_a_build_that_is_drained_with_its_node_leaves_nothing(cluster: Cluster) -> None:
    """`kubectl drain` evicts pods through the API: they are told to end first."""
    run_id, build = cluster.start_sleeping_build(60)
    pod = cluster.pod_of(run_id)
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod.name}/eviction"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.name}}
    assert cluster.ask("POST", path, cluster.kubernetes.token(), **eviction) == 200
    assert cluster.site.ended(run_id)["status"] in ("FAILURE", "CANCELED")
    cluster.nothing_is_left(build)


def test_a_build_that_is_evicted_by_its_node_leaves_nothing(cluster: Cluster) -> None:
    """A node that runs out of memory kills at once: only who looks at the job can know."""
    run_id, build = cluster.start_sleeping_build(60)
    pod = cluster.pod_of(run_id)
    cluster.kubernetes.lose(pod)
    killed = time.monotonic()
    assert cluster.site.ended(run_id)["status"] == "FAILURE"
    print(f"noticed after {time.monotonic() - killed:.0f} s")
    cluster.nothing_is_left(build)


def test_a_build_in_another_pod_is_never_taken_for_dead(cluster: Cluster) -> None:
    """The janitor and the cleanup run in pods of their own, which see none of its processes."""
    run_id, build = cluster.start_sleeping_build(45)
    cleanup = cluster.site.launch("cleanup")
    assert cluster.site.ended(cleanup)["status"] == "SUCCESS"
    assert cluster.left_of(build), "it is still there"
    assert cluster.site.ended(run_id)["status"] == "SUCCESS"
    assert [tag for tag in cluster.left_of(build) if tag.endswith(f"--{build}")]


def test_what_changes_production_has_an_account_of_its_own(cluster: Cluster) -> None:
    runs = {job: cluster.site.launch(job) for job in ("release", "cleanup")}
    accounts = {}
    for job, run_id in runs.items():
        cluster.site.ended(run_id)
        accounts[job] = cluster.pod_of(run_id).spec["serviceAccountName"]
    assert accounts == {"release": "aml-images-releases", "cleanup": "aml-images-runs"}


def test_who_may_not_is_refused(cluster: Cluster) -> None:
    """The pods of builds have no role: what a Dockerfile does with their token is nothing."""
    jobs = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
    for account, status in (("aml-images-runs", 403), ("aml-images-dagster", 200)):
        assert cluster.ask("GET", jobs, cluster.kubernetes.token(account)) == status
    assert cluster.ask("GET", jobs, "forged") == 401
