"""The tables of an earlier Dagster, and `dagster instance migrate`, as docs/operate.md has it for an upgrade."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import alembic.command
import dagster as dg
import pytest
from dagster._core.storage.sql import get_alembic_config
from dagster_postgres import utils as dagster_postgres_utils
from sqlalchemy import create_engine

from tests.dagster_instance import open_instance
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.services

DEPLOY = Path(__file__).parents[2] / "deploy"
EARLIER = "6b7fb194ff9c"
"""Before the last change of a table, concurrency_limits.using_default_limit."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def home(server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(DEPLOY / "dagster-postgres.yaml")
    return home


def has_column(server: PostgresServer) -> bool:
    where = "table_name = 'concurrency_limits' and column_name = 'using_default_limit'"
    return server.query(f"select count(*) from information_schema.columns where {where}") == "1"


def test_the_tables_of_an_earlier_dagster_are_migrated_and_keep_what_is_in_them(
    server: PostgresServer, home: Path
) -> None:
    with open_instance(home) as instance:
        run_id = instance.create_run_for_job(dg.GraphDefinition("build").to_job()).run_id
        instance.event_log_storage.set_concurrency_slots("docker_build", 3)
    address = "postgresql://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**server.environment)
    with create_engine(address).connect() as connection:
        config = get_alembic_config(dagster_postgres_utils.__file__, "./alembic/alembic.ini")
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, EARLIER)
        connection.commit()
    assert not has_column(server)
    for _ in range(2):
        migrate = [sys.executable, "-m", "dagster", "instance", "migrate"]
        environment = os.environ | {"DAGSTER_HOME": str(home)}
        done = subprocess.run(migrate, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert has_column(server)
    with open_instance(home) as instance:
        assert instance.get_run_by_id(run_id) is not None
        (limit,) = instance.event_log_storage.get_pool_limits()
        assert (limit.name, limit.limit) == ("docker_build", 3)
