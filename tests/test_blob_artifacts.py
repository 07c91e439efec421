"""Artifacts in Azure Blob, by configuration alone: who reads, what is said when it cannot be, and who is first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import create_atomically, read_whole, write_atomically
from aml_images_dagster.builds.housekeeping.cleanup import read_report
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.checks import perform
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
from tests.records import build_record

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.checks import CheckResult
    from tests.emulators.azure.blob_storage import BlobStorage
    from tests.emulators.azure.cloud import EmulatedCloud

URI = "az://factory/of this"


def check(tmp_path: Path, **azure: str) -> CheckResult:
    settings = load_settings(repo=tmp_path, artifacts=URI)
    settings = settings.model_copy(update={"azure": settings.azure.model_copy(update=azure)})
    (found,) = [check for check in backends_for(settings).checks if check.name == "storage account"]
    assert found.before_build
    return perform(found)


def test_bytes_come_back(blob_account: BlobStorage, tmp_path: Path) -> None:
    blob_account.create("factory")
    root = backends_for(load_settings(repo=tmp_path, artifacts=URI)).artifacts.root
    write_atomically(root / "a" / "b.json", b"one")
    assert read_whole(root / "a" / "b.json") == b"one"
    assert list(blob_account.containers["factory"]) == ["of this/a/b.json"]
    # One request for a write and one for a read: nobody sees a part.
    assert [request.method for request in blob_account.requests(path="b.json")] == ["PUT", "GET"]
    with pytest.raises(FileExistsError):
        create_atomically(root / "a" / "b.json", b"two")
    assert read_whole(root / "a" / "b.json") == b"one"
    with pytest.raises(FileNotFoundError):
        read_whole(root / "c")


def test_others_are_seen_at_once(blob_account: BlobStorage, tmp_path: Path) -> None:
    blob_account.create("factory")
    root = backends_for(load_settings(repo=tmp_path, artifacts=URI)).artifacts.root
    write_atomically(root / "a", b"")
    assert [path.name for path in root.iterdir()] == ["a"]
    blob_account.put("factory", "of this/b", b"by another process")
    assert sorted(path.name for path in root.iterdir()) == ["a", "b"]


def test_all_is_well(blob_account: BlobStorage, tmp_path: Path) -> None:
    blob_account.create("factory")
    assert check(tmp_path).found == f"{blob_account.host}, container factory"


def test_what_is_wrong_is_said(blob_account: BlobStorage, tmp_path: Path, cloud: EmulatedCloud) -> None:
    assert "no container 'factory'" in check(tmp_path).found
    assert "no storage account is configured" in check(tmp_path, storage_account="").found
    blob_account.fail(403, times=None)
    refused = check(tmp_path)
    assert "may not do that" in refused.found
    assert "Storage Blob Data Contributor" in refused.hint


@pytest.mark.parametrize("status", [403, 429])
def test_a_fault_of_the_account_explains_itself(blob_account: BlobStorage, tmp_path: Path, status: int) -> None:
    """Everything that goes on when others are away looks for this."""
    blob_account.create("factory")
    artifacts = backends_for(load_settings(repo=tmp_path, artifacts=URI)).artifacts
    folder = artifacts.build("20261123.00000000")
    begun = build_record(folder.build)
    folder.write_build(begun)
    blob_account.fail(status, retry_after=0, times=None)
    asked = [
        folder.read_build,
        lambda: folder.write_build(begun),
        folder.remove_release_files,
        artifacts.folders,
        artifacts.unsettled,
        lambda: Ledger(artifacts).records(),
    ]
    for ask in asked:
        with pytest.raises(Unreachable, match="storage account"):
            ask()
    assert read_report(folder) is None


def test_other_artifacts_need_no_account(blob_account: BlobStorage, tmp_path: Path) -> None:
    assert "storage account" not in [check.name for check in backends_for(load_settings(repo=tmp_path)).checks]
