"""The storages that stay open, on files that are Dagster's own."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import dagster as dg
import pytest
from dagster import DagsterEventType

from aml_images_dagster.instance import storage

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 60
KEYS = [dg.AssetKey(["family", f"image{number}"]) for number in range(3)]


@dg.multi_asset(
    specs=[dg.AssetSpec(key) for key in KEYS],
    check_specs=[dg.AssetCheckSpec("digest", asset=key) for key in KEYS],
)
def images():
    pass


def stock(home: Path) -> dg.DagsterInstance:
    """The same instance by Dagster's own storages."""
    (home / "dagster.yaml").write_text(f"storage: {{sqlite: {{base_dir: {home}}}}}\ntelemetry: {{enabled: false}}\n")
    return dg.DagsterInstance.from_config(str(home))


def new_run(instance: dg.DagsterInstance) -> str:
    job = dg.Definitions(assets=[images]).resolve_implicit_global_asset_job_def()
    return instance.create_run_for_job(job).run_id


def report(instance: dg.DagsterInstance, run_id: str, message: str) -> None:
    run = instance.get_run_by_id(run_id)
    instance.report_engine_event(message, run)


def messages(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    records = instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT).records
    return [message_of(record.event_log_entry) for record in records]


def message_of(entry: dg.EventLogEntry) -> str:
    assert entry.dagster_event is not None
    return entry.dagster_event.message or ""


def rows(file: Path, query: str) -> list[Any]:
    with sqlite3.connect(file) as connection:
        return connection.execute(query).fetchall()


def in_forks(count: int, work: Callable[[int], None]) -> None:
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                work(number)
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * count


def test_dagsters_own_storages_read_what_was_stored(instance: dg.DagsterInstance, home: Path) -> None:
    run_id = new_run(instance)
    report(instance, run_id, "stored")
    with stock(home) as other:
        assert messages(other, run_id) == ["stored"]
        assert [run.run_id for run in other.get_runs()] == [run_id]


def tables_of(home: Path, run_id: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(home / "history" / "runs" / f"{run_id}.db")) as connection:
        schema = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        return [
            *schema,
            *connection.execute("SELECT * FROM alembic_version"),
            *connection.execute("PRAGMA journal_mode"),
        ]


@pytest.mark.parametrize("links", [True, False])
def test_the_file_of_a_run_has_the_tables_that_dagsters_own_storage_makes(
    instance: dg.DagsterInstance, home: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", mock.Mock(side_effect=OSError(errno.EPERM, "no links")))
    ours = [new_run(instance) for _ in range(2)]
    assert len([*(home / "history" / "runs").glob("empty-*")]) == links
    storage._DATABASES.close()
    with stock(home) as dagsters:
        theirs = new_run(dagsters)
    assert [tables_of(home, run) for run in ours] == [tables_of(home, theirs)] * 2


def test_a_store_that_is_there_is_opened_without_a_look_at_the_migrations(
    instance: dg.DagsterInstance, home: Path
) -> None:
    run_id = new_run(instance)
    report(instance, run_id, "stored")
    storage._DATABASES.close()
    with (
        mock.patch("alembic.script.ScriptDirectory.from_config", side_effect=AssertionError("migrations are loaded")),
        dg.DagsterInstance.from_config(str(home)) as again,
    ):
        assert messages(again, run_id) == ["stored"]
        assert [run.run_id for run in again.get_runs()] == [run_id]
        assert again.all_instigator_state() == []


@pytest.mark.parametrize("damage", ["DELETE FROM alembic_version", "DROP TABLE alembic_version"])
@pytest.mark.parametrize("file", ["runs.db", "runs/index.db", "schedules/schedules.db"])
def test_a_store_of_no_revision_gets_one_as_from_dagster(
    instance: dg.DagsterInstance, home: Path, file: str, damage: str
) -> None:
    new_run(instance)
    storage._DATABASES.close()
    with closing(sqlite3.connect(found(home, file))) as connection, connection:
        connection.execute(damage)
    with dg.DagsterInstance.from_config(str(home)) as again:
        again.event_log_storage.all_asset_keys()
    assert len(rows(found(home, file), "SELECT version_num FROM alembic_version")) == 1


def found(home: Path, file: str) -> Path:
    [path] = [path for path in home.rglob("*.db") if str(path).endswith(f"/{file}")]
    return path


def test_forks_and_their_parent_store_at_the_same_time(instance: dg.DagsterInstance, home: Path) -> None:
    run_id = new_run(instance)
    report(instance, run_id, "before")  # the connections are open when it forks

    def store(number: int) -> None:
        for index in range(20):
            report(instance, run_id, f"{number}-{index}")
        new_run(instance)

    in_forks(4, store)
    report(instance, run_id, "after")
    found = messages(instance, run_id)
    assert sorted(found) == sorted(["before", "after", *(f"{n}-{i}" for n in range(4) for i in range(20))])
    assert len(instance.get_runs()) == 1 + 4
    for file in home.rglob("*.db"):
        assert rows(file, "PRAGMA integrity_check") == [("ok",)]


def open_databases() -> list[str]:
    found = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(handle.readlink()))
        except FileNotFoundError:
            continue
    return [name for name in found if name.endswith(".db")]


def test_no_database_is_open_across_a_fork(instance: dg.DagsterInstance, home: Path) -> None:
    new_run(instance)
    assert any(name.startswith(str(home)) for name in open_databases())

    def look(_: int) -> None:
        assert open_databases() == []

    in_forks(1, look)


def test_a_page_of_many_runs_leaves_few_files_open(instance: dg.DagsterInstance) -> None:
    for _ in range(20):
        new_run(instance)
    log = instance.event_log_storage
    planned = log.get_event_records(dg.EventRecordsFilter(DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED))
    assert len(planned) == 20 * len(KEYS)
    assert len(open_databases()) <= storage._Databases._MOST


def test_a_killed_process_loses_nothing(instance: dg.DagsterInstance) -> None:
    run_id = new_run(instance)
    program = (
        "import dagster as dg, os, signal, sys\n"
        "instance = dg.DagsterInstance.get()\n"
        "for number in range(10):\n"
        "    instance.report_engine_event(str(number), instance.get_run_by_id(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program, run_id], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert messages(instance, run_id) == [str(number) for number in range(10)]


def test_a_commit_of_a_run_is_on_the_disk_at_once_and_one_of_an_event_log_later(instance: dg.DagsterInstance) -> None:
    normal, full = 1, 2
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == normal
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


PLANNED = {
    "index.db": [
        "SELECT dagster_event_type, asset_key, step_key FROM event_logs ORDER BY id",
        "SELECT asset_key, last_run_id IS NOT NULL FROM asset_keys ORDER BY asset_key",
        "SELECT asset_key, check_name, execution_status, evaluation_event_storage_id FROM asset_check_executions "
        "ORDER BY id",
    ],
}
OF_RUN = "SELECT dagster_event_type, asset_key, step_key FROM event_logs ORDER BY id"


def planned(home: Path, run_id: str) -> list[Any]:
    folder = home / "history" / "runs"
    found = [rows(folder / name, query) for name, queries in PLANNED.items() for query in queries]
    return [*found, rows(folder / f"{run_id}.db", OF_RUN)]


def test_planned_events_in_a_batch_are_those_that_are_stored_one_by_one(
    instance: dg.DagsterInstance, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    store = storage.PooledEventLogStorage.store_event_batch
    monkeypatch.setattr(
        storage.PooledEventLogStorage,
        "store_event_batch",
        lambda self, events: (batches.append(len(events)), store(self, events))[1],
    )
    found = planned(home, new_run(instance))
    assert batches == [6]
    other = tmp_path / "other"
    other.mkdir()
    with stock(other) as instance_of_dagster:
        assert planned(other, new_run(instance_of_dagster)) == found
    assert len(found[-1]) == 6


def test_a_batch_that_fails_leaves_nothing_of_it(
    instance: dg.DagsterInstance, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [len(table) for table in planned(home, new_run(instance))]
    calls = []

    def fail_once(self: Any, *arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("in mid-batch")
        whole(self, *arguments)

    whole = storage.PooledEventLogStorage._store_asset_event
    monkeypatch.setattr(storage.PooledEventLogStorage, "_store_asset_event", fail_once)
    found = planned(home, new_run(instance))
    assert "in mid-batch" in capsys.readouterr().err
    of_all_runs, assets, checks, of_the_run = (len(table) for table in found)
    assert (of_all_runs, assets, checks) == (2 * expected[0], expected[1], 2 * expected[2])
    assert of_the_run == expected[3]


def test_what_another_process_stores_is_seen_by_who_watches(instance: dg.DagsterInstance) -> None:
    """The UI does; what is new is in the write-ahead log, long before it is in the run's own file."""
    run_id = new_run(instance)
    seen: list[str] = []
    instance.watch_event_logs(run_id, None, lambda entry, _: seen.append(message_of(entry)))  # type: ignore[arg-type]
    try:
        for message in ("first", "second"):
            in_forks(1, lambda _, message=message: report(instance, run_id, message))
            deadline = time.monotonic() + SECONDS
            while message not in seen:
                assert time.monotonic() < deadline, seen
                time.sleep(0.05)
    finally:
        instance.event_log_storage.dispose()


def test_whether_a_table_is_there_is_asked_once(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    log: Any = instance.event_log_storage
    assert log.has_table("asset_check_executions")
    assert not log.has_table("nothing_like_it")
    monkeypatch.setattr(storage, "inspect", None)
    assert log.has_table("asset_check_executions")


def test_wiping_works_while_databases_are_open(instance: dg.DagsterInstance) -> None:
    new_run(instance)
    instance.wipe()
    assert instance.get_runs() == []
    run_id = new_run(instance)
    report(instance, run_id, "again")
    assert messages(instance, run_id) == ["again"]
