"""The drop: complete, checksummed, the same bytes whenever it is made, and read to import it."""

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

from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.drop import drop_files, read_drop, resolve_login, write_drop
from aml_images_dagster.release.import_cfg import import_cfg
from tests.release.conftest import House, digests

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.release.release_json import ReleaseJson

RELEASE_FILES = (Path(__file__).parents[2] / "docs" / "release-files.md").read_text("utf-8")
SECRET = "correct-horse-battery"


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


@pytest.fixture
def cfg_path(tmp_path: Path, release: ReleaseJson) -> Path:
    write_drop(UPath(tmp_path), drop_files(release, import_cfg(release.images)))
    return tmp_path / "import.cfg"


def change(path: Path, edit: Callable[[Any], None]) -> None:
    """Edit a document, and leave no checksums that would tell."""
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    (path.parent / "SHA256SUMS").unlink()


def test_a_drop_is_read(cfg_path: Path, release: ReleaseJson) -> None:
    assert read_drop(cfg_path) == (release, import_cfg(release.images))


@pytest.mark.parametrize("name", ["import.cfg", "release.json"])
def test_a_file_that_is_missing(cfg_path: Path, name: str) -> None:
    (cfg_path.parent / name).unlink()
    with pytest.raises(BadInput, match="there is no such file"):
        read_drop(cfg_path)


@pytest.mark.parametrize("field", ["registryUsername", "registryPassword"])
def test_a_literal_secret_is_refused_and_not_shown(cfg_path: Path, field: str) -> None:
    change(cfg_path, lambda cfg: cfg[0]["source"].update({field: SECRET}))
    with pytest.raises(BadInput, match="must be references") as refused:
        read_drop(cfg_path)
    assert SECRET not in str(refused.value)
    assert refused.value.where == str(cfg_path)


def test_files_that_disagree(cfg_path: Path) -> None:
    change(cfg_path, lambda cfg: cfg[0]["destination"]["imageNames"].append("public/azureml/other:latest"))
    with pytest.raises(BadInput, match="name different images or tags"):
        read_drop(cfg_path)


def test_a_file_that_was_changed(cfg_path: Path) -> None:
    tampered = cfg_path.parent / "ServiceGroupRoot" / "buildver.txt"
    tampered.write_text("another build")
    with pytest.raises(BadInput, match="does not match SHA256SUMS") as refused:
        read_drop(cfg_path)
    assert refused.value.where == str(tampered)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"", "does not name import.cfg and release.json"),
        (lambda sums: sums[: sums.index(b"\n", sums.index(b"import.cfg")) + 1], "does not name release.json"),
        (lambda sums: sums[:-1], r"line \d is damaged"),  # cut off
        (lambda sums: sums[:-20], r"line \d is damaged"),
        (lambda sums: sums.replace(b"  import.cfg", b" import.cfg"), r"line \d is damaged"),
        (lambda sums: b"\xff\xfe" + sums, "not UTF-8"),
        (lambda sums: sums.decode().encode("utf-16"), "not UTF-8"),
    ],
)
def test_checksums_that_are_damaged(cfg_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    sums = cfg_path.with_name("SHA256SUMS")
    sums.write_bytes(damage(sums.read_bytes()))
    with pytest.raises(BadInput, match=message) as refused:
        read_drop(cfg_path)
    assert refused.value.where == str(sums)


def test_checksums_with_the_line_ends_of_windows(cfg_path: Path, release: ReleaseJson) -> None:
    sums = cfg_path.with_name("SHA256SUMS")
    sums.write_bytes(sums.read_bytes().replace(b"\n", b"\r\n"))
    assert read_drop(cfg_path)[0] == release


def test_the_account_comes_from_the_environment(release: ReleaseJson) -> None:
    cfg = import_cfg(release.images)
    login = resolve_login(cfg, {"STAGING_CLIENT_ID": "someone", "STAGING_CLIENT_SECRET": SECRET})
    assert login is not None
    assert (login.username, login.password) == ("someone", SECRET)
    assert SECRET not in repr(login)
    assert resolve_login(cfg, {}) is None


@pytest.mark.parametrize("missing", ["STAGING_CLIENT_ID", "STAGING_CLIENT_SECRET"])
def test_a_reference_that_leads_nowhere(release: ReleaseJson, missing: str) -> None:
    environment = {"STAGING_CLIENT_ID": "someone", "STAGING_CLIENT_SECRET": SECRET}
    del environment[missing]
    with pytest.raises(BadInput, match=f"^import.cfg: {missing} is not set") as refused:
        resolve_login(import_cfg(release.images), environment)
    assert SECRET not in str(refused.value)


@pytest.mark.engine
def test_the_command_imports_a_drop(house: House, complete_build: Callable[..., ReleaseJson]) -> None:
    release = complete_build("apps/hello", "apps/other", "tools/shell")
    drop = house.backends.artifacts.build(release.build).root / "drop" / "import.cfg"
    plan = house.repository.json("import", "--from", str(drop), "--dry-run")
    assert {change["before"] for change in plan["changes"]} == {None}
    assert set(house.latest(release).values()) == {None}
    record = house.repository.json("import", "--from", str(drop))
    assert (record["action"], record["build"]) == ("release", release.build)
    wanted = digests(release, latest=False) | digests(release, latest=True)
    assert {name: house.served(name) for name in wanted} == wanted
