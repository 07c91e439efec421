"""The drop: complete, checksummed, and the same bytes whenever it is made."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from upath import UPath

from aml_images_dagster.release.drop import drop_files, write_drop
from aml_images_dagster.release.import_cfg import import_cfg

if TYPE_CHECKING:
    from aml_images_dagster.release.release_json import ReleaseJson

RELEASE_FILES = (Path(__file__).parents[2] / "docs" / "release-files.md").read_text("utf-8")


@pytest.fixture
def drop(release: ReleaseJson) -> dict[str, bytes]:
    return drop_files(release, import_cfg(release.images))


@pytest.fixture
def documents(drop: dict[str, bytes]) -> dict[str, Any]:
    root = "ServiceGroupRoot/"
    return {
        path.removeprefix(root): json.loads(content)
        for path, content in drop.items()
        if path.startswith(root) and path.endswith(".json")
    }


def test_the_files(drop: dict[str, bytes]) -> None:
    assert list(drop)[-1] == "SHA256SUMS"
    assert set(drop) == {
        "import.cfg",
        "release.json",
        "SHA256SUMS",
        "ServiceGroupRoot/RolloutSpec.json",
        "ServiceGroupRoot/ServiceModel.json",
        "ServiceGroupRoot/ScopeBindings.json",
        "ServiceGroupRoot/Parameters/ImportImages.Parameters.json",
        "ServiceGroupRoot/buildver.txt",
        "ServiceGroupRoot/import.tar",
    }


def test_the_same_build_gives_the_same_bytes(release: ReleaseJson, drop: dict[str, bytes]) -> None:
    assert drop_files(release, import_cfg(release.images)) == drop


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_sha256sum_agrees(tmp_path: Path, drop: dict[str, bytes]) -> None:
    write_drop(UPath(tmp_path), drop)
    done = check(tmp_path)
    assert done.returncode == 0, done.stderr
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert sorted(line.removesuffix(": OK") for line in done.stdout.splitlines()) == [
        path for path in written if path != "SHA256SUMS"
    ]
    (tmp_path / "import.cfg").write_bytes(drop["import.cfg"].replace(b"debian12", b"debian13"))
    assert check(tmp_path).returncode == 1


def test_the_rollout_specification(documents: dict[str, Any]) -> None:
    specification = documents["RolloutSpec.json"]
    assert specification["$schema"].endswith("/2020-01-01/rolloutSpecification.json")
    metadata = specification["RolloutMetadata"]
    assert metadata["ServiceModelPath"] == "ServiceModel.json"
    assert metadata["ScopeBindingsPath"] == "ScopeBindings.json"
    assert metadata["BuildSource"]["Parameters"]["VersionFile"] == "buildver.txt"
    assert set(metadata) == {
        "ServiceModelPath",
        "ScopeBindingsPath",
        "Name",
        "RolloutType",
        "BuildSource",
        "Notification",
    }
    (step,) = specification["OrchestratedSteps"]
    assert set(step) == {"name", "targetType", "targetName", "actions", "dependsOn"}
    assert step["targetType"] == "ServiceResource"


def test_every_name_in_the_documents_leads_somewhere(documents: dict[str, Any], drop: dict[str, bytes]) -> None:
    (step,) = documents["RolloutSpec.json"]["OrchestratedSteps"]
    model = documents["ServiceModel.json"]
    (group,) = model["ServiceResourceGroups"]
    (resource,) = group["ServiceResources"]
    (definition,) = model["ServiceResourceGroupDefinitions"]
    (resource_definition,) = definition["ServiceResourceDefinitions"]
    assert step["targetName"] == resource["Name"]
    assert group["InstanceOf"] == definition["Name"]
    assert resource["InstanceOf"] == resource_definition["Name"]
    parameters = documents[resource["RolloutParametersPath"]]
    (shell,) = parameters["shellExtensions"]
    assert step["actions"] == [f"Shell/{shell['name']}"]
    assert resource_definition["ComposedOf"]["Extension"]["Shell"][0]["Type"] == shell["type"]
    assert f"ServiceGroupRoot/{shell['package']['reference']['path']}" in drop
    (scope,) = documents["ScopeBindings.json"]["scopeBindings"]
    assert group["ScopeTags"] == [{"Name": scope["scopeTagName"]}]
    for path in ("ServiceModelPath", "ScopeBindingsPath"):
        assert documents["RolloutSpec.json"]["RolloutMetadata"][path] in documents


def test_every_placeholder_is_bound_and_every_binding_used(documents: dict[str, Any]) -> None:
    (scope,) = documents["ScopeBindings.json"]["scopeBindings"]
    bound = {binding["find"]: binding["replaceWith"] for binding in scope["bindings"]}
    assert bound == dict(re.findall(r"^\| `(__[A-Z_]+__)` \| `(\$\(\w+\))` \|$", RELEASE_FILES, re.MULTILINE))
    text = json.dumps([document for path, document in documents.items() if path != "ScopeBindings.json"])
    assert set(re.findall(r"__[A-Z_]+__", text)) == set(bound)


def test_buildver_is_the_build(drop: dict[str, bytes]) -> None:
    assert drop["ServiceGroupRoot/buildver.txt"] == b"20261123.4f2a9c1e"


def test_the_shell_package(drop: dict[str, bytes], documents: dict[str, Any]) -> None:
    with tarfile.open(fileobj=io.BytesIO(drop["ServiceGroupRoot/import.tar"])) as package:
        members = {member.name: member for member in package.getmembers()}
        contents = {name: package.extractfile(name).read() for name in members}  # type: ignore[union-attr]
    assert set(members) == {"import.sh", "import_images.py", "import.cfg", "release.json"}
    assert contents["import.cfg"] == drop["import.cfg"]
    assert contents["release.json"] == drop["release.json"]
    (shell,) = documents["Parameters/ImportImages.Parameters.json"]["shellExtensions"]
    assert shell["launch"]["command"] == ["/bin/bash", "import.sh"]
    assert shell["launch"]["identity"]["type"] == "userAssigned"
    assert members["import.sh"].mode == 0o755
    assert {(member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, "")}
