"""deploy/helm/values.yaml: keys that Dagster's chart knows, parts that Kubernetes knows, as in deploy/kubernetes.

The chart itself cannot be rendered here. The keys are those of its schema at commit 835892b of dagster-io/dagster
(helm/dagster/values.schema.json, and values.yaml of its chart dagster-user-deployments), which refuses others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text("utf-8"))
MANIFESTS = {
    (each["kind"], each["metadata"]["name"]): each
    for path in (DEPLOY / "kubernetes").glob("*.yaml")
    for each in yaml.safe_load_all(path.read_text("utf-8"))
    if "metadata" in each
}
POD_KEYS = """image env envConfigMaps envSecrets labels nodeSelector affinity tolerations podSecurityContext
    securityContext resources livenessProbe readinessProbe startupProbe annotations schedulerName volumeMounts
    volumes"""
SERVER_KEYS = f"{POD_KEYS} deploymentLabels"
KEYS = {
    "": """dagsterWebserver dagster-user-deployments postgresql generatePostgresqlPasswordSecret
        generateCeleryConfigSecret rabbitmq redis flower ingress imagePullSecrets computeLogManager scheduler
        runLauncher pythonLogs dagsterDaemon busybox migrate telemetry serviceAccount global retention
        additionalInstanceConfig""",
    "dagsterWebserver": f"""{SERVER_KEYS} replicaCount nameOverride pathPrefix service workspace enableReadOnly
        dbStatementTimeout dbPoolRecycle logLevel""",
    "dagsterWebserver.workspace": "enabled servers externalConfigmap",
    "dagsterDaemon": f"""{SERVER_KEYS} enabled runCoordinator heartbeatTolerance runMonitoring runRetries sensors
        schedules""",
    "dagsterDaemon.runCoordinator": "enabled type config",
    "dagsterDaemon.runCoordinator.config": "queuedRunCoordinator customRunCoordinator",
    "dagsterDaemon.runCoordinator.config.customRunCoordinator": "module class config",
    "dagsterDaemon.runMonitoring": """enabled startTimeoutSeconds cancelTimeoutSeconds maxResumeRunAttempts
        pollIntervalSeconds freeSlotsAfterRunEndSeconds""",
    "dagster-user-deployments": """enabled enableSubchart imagePullSecrets deployments serviceAccount rbacEnabled
        extraManifests""",
    "dagster-user-deployments.deployments": f"""{POD_KEYS} name dagsterApiGrpcArgs codeServerArgs port
        includeConfigInLaunchedRuns initContainers sidecarContainers service""",
    "runLauncher": "type config",
    "runLauncher.config": "celeryK8sRunLauncher k8sRunLauncher customRunLauncher",
    "runLauncher.config.k8sRunLauncher": """image imagePullPolicy jobNamespace loadInclusterConfig kubeconfigFile
        envConfigMaps envSecrets envVars volumeMounts volumes labels failPodOnRunFailure resources schedulerName
        securityContext runK8sConfig""",
    "runLauncher.config.k8sRunLauncher.runK8sConfig": """containerConfig podSpecConfig podTemplateSpecMetadata
        jobSpecConfig jobMetadata""",
    "retention": "enabled sensor schedule autoMaterialize",
    "global": "postgresqlSecretName dagsterHome serviceAccountName celeryConfigSecretName",
    "postgresql": """enabled image postgresqlHost postgresqlUsername postgresqlPassword postgresqlDatabase
        postgresqlParams postgresqlScheme service""",
    "serviceAccount": "create name annotations",
    "computeLogManager": "type config",
    "telemetry": "enabled",
    "pythonLogs": "pythonLogLevel managedPythonLoggers dagsterHandlerConfig",
}
TYPES = {
    "runLauncher": {"K8sRunLauncher", "CeleryK8sRunLauncher", "CustomRunLauncher"},
    "dagsterDaemon.runCoordinator": {"QueuedRunCoordinator", "CustomRunCoordinator"},
    "computeLogManager": {
        "NoOpComputeLogManager",
        "AzureBlobComputeLogManager",
        "GCSComputeLogManager",
        "S3ComputeLogManager",
        "CustomComputeLogManager",
    },
}
RUNS = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
(CODE,) = VALUES["dagster-user-deployments"]["deployments"]


def at(path: str) -> Any:
    """What stands below a dotted path; of a list its first."""
    found: Any = VALUES
    for key in filter(None, path.split(".")):
        found = found[key]
    return found[0] if isinstance(found, list) else found


@pytest.mark.parametrize("path", KEYS)
def test_the_chart_knows_every_key(path: str) -> None:
    assert at(path).keys() - set(KEYS[path].split()) == set()


@pytest.mark.parametrize("path", TYPES)
def test_the_chart_knows_every_type(path: str) -> None:
    assert at(path)["type"] in TYPES[path]


@pytest.mark.parametrize(
    ("name", "pod", "container"),
    [
        ("webserver", VALUES["dagsterWebserver"], VALUES["dagsterWebserver"]),
        ("daemon", VALUES["dagsterDaemon"], VALUES["dagsterDaemon"]),
        ("code", CODE, CODE),
        ("run", RUNS["runK8sConfig"]["podSpecConfig"], RUNS["runK8sConfig"]["containerConfig"]),
    ],
)
def test_what_it_gives_to_pods_is_of_kubernetes(name: str, pod: dict[str, Any], container: dict[str, Any]) -> None:
    import kubernetes_validate  # only here, because it takes seconds and every run of pytest loads this module

    main = {key: container[key] for key in ("resources", "securityContext", "volumeMounts") if key in container}
    spec = {key: pod[key] for key in ("initContainers", "volumes", "enableServiceLinks") if key in pod}
    spec["securityContext"] = pod["podSecurityContext"] if "podSecurityContext" in pod else pod["securityContext"]
    spec["containers"] = [{"name": name, "image": "image", **main}]
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}, "1.33", strict=True
    )


def deployment(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    pod = MANIFESTS["Deployment", name]["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("aml-images-webserver", VALUES["dagsterWebserver"]),
        ("aml-images-daemon", VALUES["dagsterDaemon"]),
        ("aml-images-code", CODE),
    ],
)
def test_pods_are_those_of_the_manifests(name: str, given: dict[str, Any]) -> None:
    pod, container = deployment(name)
    assert given["podSecurityContext"] == pod["securityContext"]
    assert given["resources"] == container["resources"]
    confined = dict(container["securityContext"])
    del confined["readOnlyRootFilesystem"]  # the chart mounts no volume at /tmp
    assert given["securityContext"] == confined
    settings = [source["configMapRef"] for source in container["envFrom"] if "configMapRef" in source]
    assert given["envConfigMaps"] == settings


def test_the_instance_is_that_of_the_manifests() -> None:
    instance = yaml.safe_load(MANIFESTS["ConfigMap", "aml-images-instance"]["data"]["dagster.yaml"])
    assert VALUES["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"] == instance["run_coordinator"]
    assert VALUES["additionalInstanceConfig"] == {key: instance[key] for key in ("nux", "concurrency")}
    monitoring = VALUES["dagsterDaemon"]["runMonitoring"]
    assert monitoring["pollIntervalSeconds"] == instance["run_monitoring"]["poll_interval_seconds"]
    assert monitoring["freeSlotsAfterRunEndSeconds"] == instance["run_monitoring"]["free_slots_after_run_end_seconds"]
    days = {key: VALUES["retention"][key]["purgeAfterDays"] for key in ("schedule", "sensor")}
    assert days == {key: instance["retention"][key]["purge_after_days"] for key in ("schedule", "sensor")}


def test_runs_are_those_of_the_manifests() -> None:
    instance = yaml.safe_load(MANIFESTS["ConfigMap", "aml-images-instance"]["data"]["dagster.yaml"])
    wanted = instance["run_launcher"]["config"]
    assert [each["name"] for each in RUNS["envConfigMaps"]] == wanted["env_config_maps"]
    # The chart itself hands on the secret of the database.
    assert [each["name"] for each in RUNS["envSecrets"]] == [
        name for name in wanted["env_secrets"] if name != VALUES["global"]["postgresqlSecretName"]
    ]
    ours, theirs = RUNS["runK8sConfig"], wanted["run_k8s_config"]
    assert ours["podTemplateSpecMetadata"] == theirs["pod_template_spec_metadata"]
    assert ours["containerConfig"]["resources"] == theirs["container_config"]["resources"]
    pod = ours["podSpecConfig"]
    assert pod["serviceAccountName"] == wanted["service_account_name"]
    assert pod["enableServiceLinks"] is theirs["pod_spec_config"]["enable_service_links"]
    assert pod["terminationGracePeriodSeconds"] == theirs["pod_spec_config"]["termination_grace_period_seconds"]
    assert ("ServiceAccount", pod["serviceAccountName"]) in MANIFESTS


def test_the_webserver_finds_the_code_server() -> None:
    (server,) = VALUES["dagsterWebserver"]["workspace"]["servers"]
    assert (server["host"], server["port"]) == (CODE["name"], CODE["port"])
    settings = MANIFESTS["ConfigMap", "aml-images-settings"]["data"]
    assert settings["AML_IMAGES_CODE_HOST"] == CODE["name"]
