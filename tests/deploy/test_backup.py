"""A back-up of a real Postgres and of artifacts, a wipe, and a restore as docs/operate.md tells it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.ledger import Ledger, ReleaseRecord
from tests.postgres_server import PostgresServer
from tests.records import NOW, build_record

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.services

BACKUP = Path(__file__).parents[2] / "deploy" / "backup"
BUILD = "20261123.4f2a9c1e"


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def run(server: PostgresServer, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | server.environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_what_was_wiped_is_restored(server: PostgresServer, tmp_path: Path) -> None:
    state, backups = tmp_path / "state", tmp_path / "backups"
    artifacts = Artifacts(str(state / "artifacts"))
    artifacts.build(BUILD).write_build(build_record(BUILD, status="succeeded"))
    about = {"who": "ada", "when": NOW, "build": BUILD, "commit": "", "built": NOW, "release_tag": "v1", "changes": ()}
    record = Ledger(artifacts).append(
        ReleaseRecord.model_validate({"number": 1, "action": "release", "begun": 1, **about})
    )
    server.query("create table runs (id text)")
    server.query("insert into runs values ('one')")

    done = run(server, str(BACKUP), str(state), str(backups))
    assert done.returncode == 0, done.stderr
    (made,) = backups.iterdir()

    shutil.rmtree(state / "artifacts")
    server.query("drop table runs")
    restored = run(server, "pg_restore", "--clean", "--if-exists", "--dbname", "postgres", str(made / "dagster.dump"))
    assert restored.returncode == 0, restored.stderr
    assert (
        run(server, "tar", "--extract", "--file", str(made / "artifacts.tar"), "--directory", str(state)).returncode
        == 0
    )

    assert server.query("select id from runs") == "one"
    assert Ledger(artifacts).records() == (record,)
    read = artifacts.build(BUILD).read_build()
    assert read is not None
    assert read.status == "succeeded"


def test_a_back_up_that_fails_leaves_nothing_that_looks_like_one(server: PostgresServer, tmp_path: Path) -> None:
    server.stop()
    (tmp_path / "state").mkdir()
    done = run(server, str(BACKUP), str(tmp_path / "state"), str(tmp_path / "backups"))
    assert done.returncode != 0
    assert list((tmp_path / "backups").iterdir()) == []


def test_old_ones_are_removed(server: PostgresServer, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    for name in ("20250101T000000Z", "notes"):
        (backups / name).mkdir(parents=True)
        os.utime(backups / name, (0, 0))
    (tmp_path / "state").mkdir()
    assert run(server, str(BACKUP), str(tmp_path / "state"), str(backups)).returncode == 0
    names = {path.name for path in backups.iterdir()}
    assert len(names) == 2
    assert "notes" in names
    assert "20250101T000000Z" not in names
