"""deploy/azure, as far as one can look at it without Azure: it parses, fits together, is what docs/azure.md says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pycep import BicepParser

from aml_images_dagster.settings.group import every_setting
from aml_images_dagster.settings.settings import ENV_PREFIX, Settings
from aml_images_dagster.trust.certificates import parse_identity

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/azure.md").read_text("utf-8")
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)

# Source: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
BUILT_IN = {
    "AcrPull": "7f951dda-4ed3-4680-a7ca-43fe172d538d",
    "AcrPush": "8311e382-0749-4cb8-b61a-304f252e45ec",
    "AcrDelete": "c2f4ef07-c644-48eb-af81-4b1b4947fb11",
    "Container Registry Tasks Contributor": "fb382eab-e894-4461-af04-94435c366c3f",
    "Container Registry Data Importer and Data Reader": "577a9874-89fd-4f24-9dbd-b5034d0ad23a",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "AzureML Data Scientist": "f6c7c914-8db3-469d-8ca1-694a8f32e121",
    "Key Vault Crypto User": "12338af0-0e69-4776-bea7-57ae8d297424",
    "Key Vault Reader": "21090545-7ca7-4776-b22c-e363652d74d2",
    "Network Contributor": "4d97b98b-1d4f-495f-ae58-64e0a4f9b6a5",
}
SCOPES = {
    "staging registry": "staging",
    "production registry": "production",
    "artifacts container": "container",
    "workspace": "workspace",
    "key vault": "vault",
    "subnet of the cluster": "clusterSubnet",
}
HOLDERS = {
    "compute of the workspace": "computePrincipalId",
    "machines of the cluster": "cluster",
    "the cluster": "clusterIdentity",
}
TEMPLATES = ("main", "cluster")


def text_of(name: str) -> str:
    return (ROOT / "deploy" / "azure" / f"{name}.bicep").read_text("utf-8")


def parsed(name: str) -> dict[str, Any]:
    return dict(BicepParser().parse(text=text_of(name)))


def assignments_in(name: str) -> dict[str, dict[str, Any]]:
    kind = "Microsoft.Authorization/roleAssignments"
    return {found: one["config"] for found, one in parsed(name)["resources"].items() if one["type"] == kind}


def names_in(expression: object) -> set[str]:
    """Every text in a part of the syntax tree."""
    if isinstance(expression, dict):
        return set().union(*(names_in(part) for part in expression.values()))
    if isinstance(expression, list):
        return set().union(*(names_in(part) for part in expression))
    return {str(expression)}


def test_the_page_has_a_row_for_every_role_assignment() -> None:
    found = {}
    for template in TEMPLATES:
        roles = parsed(template)["variables"]["roles"]["value"]
        for name, assignment in assignments_in(template).items():
            properties = assignment["properties"]
            [role] = names_in(properties["roleDefinitionId"]) & roles.keys()
            assert role in names_in(assignment["name"]), f"{name}: two roles would get the same name"
            [who] = names_in(properties["principalId"]) & {"builder", "releaser", *HOLDERS.values()}
            found[name] = (who, roles[role], assignment["scope"])
    shown = {
        name: (HOLDERS.get(who, who), BUILT_IN[role], SCOPES[scope]) for name, who, role, scope in ROW.findall(PAGE)
    }
    assert shown == found


def test_who_builds_may_not_write_into_production() -> None:
    reached = [
        names_in(one["properties"]["roleDefinitionId"])
        for one in assignments_in("main").values()
        if one["scope"] == "production" and "builder" in names_in(one["properties"]["principalId"])
    ]
    assert [found & {"acrPull", "acrPush", "acrImporter", "acrDelete"} for found in reached] == [{"acrPull"}]


def test_the_certificate_is_one_that_signs_images_and_its_key_stays_in_the_vault() -> None:
    policy = json.loads((ROOT / "deploy/azure/signing-certificate.json").read_text("utf-8"))
    key, certificate = policy["keyProperties"], policy["x509CertificateProperties"]
    assert not key["exportable"]
    assert (key["keyType"], key["keySize"]) in {("RSA", 2048), ("RSA", 3072), ("RSA", 4096)}
    assert certificate["keyUsage"] == ["digitalSignature"]
    assert certificate["ekus"] == [ExtendedKeyUsageOID.CODE_SIGNING.dotted_string]
    subject = parse_identity(certificate["subject"])
    assert {NameOID.COUNTRY_NAME, NameOID.STATE_OR_PROVINCE_NAME, NameOID.ORGANIZATION_NAME} <= {a.oid for a in subject}
    assert f"AML_IMAGES_TRUST__IDENTITIES={certificate['subject']}" in PAGE


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_parameter_without_a_default_is_given_but_for_secrets(name: str) -> None:
    parameters = parsed(name)["parameters"]
    given = json.loads((ROOT / "deploy" / "azure" / f"{name}.parameters.json").read_text("utf-8"))["parameters"]
    secret = {found for found, one in parameters.items() if {"type": "secure"} in one["decorators"]}
    needed = {found for found, one in parameters.items() if one["default"] is None}
    assert needed - secret <= given.keys() <= parameters.keys() - secret


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_referred_to_is_declared(name: str) -> None:
    template = parsed(name)
    declared = {*template["parameters"], *template["variables"], *template["resources"]}
    used = set(
        re.findall(r"(?<![\w.'@])([a-z]\w*)\.(?:id|name|properties|\w+\b)", re.sub(r"'[^']*'|//.*", "", text_of(name)))
    )
    assert used
    assert used - {"roles"} <= declared


def test_the_cluster_uses_what_the_other_template_makes() -> None:
    """And runs as pods are who builds: the subject is the service account of deploy/kubernetes."""
    resources, made = parsed("cluster")["resources"], parsed("main")["resources"]
    assert resources["builder"]["existing"] is True
    assert resources["builder"]["config"]["name"] == made["builder"]["config"]["name"]
    assert resources["releaser"]["existing"] is True
    assert resources["releaser"]["config"]["name"] == made["releaser"]["config"]["name"]
    parameters = parsed("cluster")["parameters"]
    subject = parameters["runsAccount"]["default"]
    launcher = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "instance.yaml").read_text("utf-8").split("---")[0])
    config = yaml.safe_load(launcher["data"]["dagster.yaml"])["run_launcher"]["config"]
    assert subject == f"system:serviceaccount:{config['job_namespace']}:{config['service_account_name']}"
    assert parameters["releasesAccount"]["default"] == subject.replace("runs", "releases")


def test_outputs_and_page_name_settings_that_exist() -> None:
    known = {ENV_PREFIX + "__".join(path).upper() for path, _ in every_setting(Settings)}
    descriptions = json.dumps([parsed(name)["outputs"] for name in TEMPLATES])
    named = set(re.findall(r"AML_IMAGES_[A-Z_]+[A-Z]", descriptions + PAGE))
    assert len(named) > 8
    assert named <= known


def test_outputs_are_on_the_page() -> None:
    outputs = {output for name in TEMPLATES for output in parsed(name)["outputs"]}
    assert [name for name in outputs if f"<{name}>" not in PAGE] == []
