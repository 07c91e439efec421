"""A back-up of a real Postgres and of artifacts, a wipe, and a restore as docs/operate.md tells it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from tests.dagster_instance import open_instance
from tests.image_repository import ImageRepository
from tests.postgres_server import PostgresServer
from tests.release.memory import MemoryWorld

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKUP = Path(__file__).parents[2] / "deploy" / "backup"


@pytest.fixture
def repository(tmp_path: Path) -> ImageRepository:
    return ImageRepository.create(tmp_path / "repository")


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def run(server: PostgresServer, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | server.environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.services
def test_after_a_wipe_and_a_restore_releases_are_known_and_rolled_back_as_before(
    server: PostgresServer, tmp_path: Path, repository: ImageRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, backups = tmp_path / "state", tmp_path / "backups"
    state.mkdir()
    world = MemoryWorld(state)
    for number in (1, 2, 3):
        world.release(world.build(number))
    world.build(4)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    home = state / "dagster"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(BACKUP.with_name("dagster-postgres.yaml"))
    with open_instance(home) as instance:
        run_id = instance.create_run_for_job(dg.GraphDefinition("build").to_job()).run_id
        instance.daemon_cursor_storage.set_cursor_values({"a sensor": "its cursor"})

    own = {"AML_IMAGES_ARTIFACTS": str(state / "artifacts")}
    commands = (("releases",), ("releases", "base/a"), ("builds",), ("status", "20261123.00000003"))
    before = [repository.json(*command, **own) for command in commands]
    assert [record["release_tag"] for record in before[0]] == ["v3", "v2", "v1"]
    done = run(server, str(BACKUP), str(state), str(backups))
    assert done.returncode == 0, done.stderr
    (made,) = backups.iterdir()

    shutil.rmtree(state / "artifacts")
    server.query("drop schema public cascade; create schema public")
    assert repository.json("releases", **own) == []
    restored = run(server, "pg_restore", "--clean", "--if-exists", "--dbname", "postgres", str(made / "dagster.dump"))
    assert restored.returncode == 0, restored.stderr
    extract = ("tar", "--extract", "--file", str(made / "artifacts.tar"), "--directory", str(state))
    assert run(server, *extract).returncode == 0

    with open_instance(home) as instance:
        assert instance.get_run_by_id(run_id) is not None
        assert instance.daemon_cursor_storage.get_cursor_values({"a sensor"}) == {"a sensor": "its cursor"}
    assert [repository.json(*command, **own) for command in commands] == before
    world.roll_back()
    assert world.served() == "2"
    world.roll_back()
    assert world.served() == "1"
    world.release(world.build(5))
    assert world.served() == "5"
    assert [record.number for record in world.ledger.records()] == list(range(1, 13))


@pytest.mark.services
def test_a_back_up_that_fails_leaves_nothing_that_looks_like_one(server: PostgresServer, tmp_path: Path) -> None:
    server.stop()
    (tmp_path / "state").mkdir()
    done = run(server, str(BACKUP), str(tmp_path / "state"), str(tmp_path / "backups"))
    assert done.returncode != 0
    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.services
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


@pytest.mark.parametrize("words", [(), ("state",), ("nowhere", "backups")])
def test_a_backup_of_nothing_says_how_it_is_called_and_leaves_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run([BACKUP, *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "deploy/backup STATE BACKUPS" in done.stderr
    assert list(tmp_path.iterdir()) == []
