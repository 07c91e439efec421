"""Reading a drop in order to import it, and `aml-images import`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from upath import UPath

from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.drop import drop_files, write_drop
from aml_images_dagster.release.drop_import import read_drop, resolve_login
from aml_images_dagster.release.import_cfg import import_cfg
from tests.release.conftest import House, digests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aml_images_dagster.release.release_json import ReleaseJson

SECRET = "correct-horse-battery"


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
