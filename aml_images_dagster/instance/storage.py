"""Dagster's SQLite storages with one engine per database, whose connection stays open.

Dagster makes a SQLAlchemy engine at every connection, so each statement is compiled again, and the connection closed
last checkpoints and deletes the write-ahead log. dagster.yaml names `PooledSqliteStorage` as `storage: custom`; files
and tables are Dagster's own: without `storage` in dagster.yaml, Dagster's own storages read them, at any time.

Power loss: commits of the event logs reach the disk with the next checkpoint (`synchronous=NORMAL`),
so the last seconds of a run's log may be lost, and no database is damaged. Runs, their status and tags included, and
the ticks of sensors and schedules are on the disk when they are committed (`FULL`). A killed process loses nothing.
Source: https://sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
from collections import OrderedDict
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import dagster
from dagster import DagsterEventType, Field, StringSource
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
    SqliteEventLogStorageWatchdog,
)
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    _event_logs_directory,
    _runs_directory,
    _schedule_directory,
)
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import QueuePool
from watchdog.observers import Observer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dagster import EventLogEntry
    from dagster._core.event_api import EventHandlerFn
    from dagster._serdes import ConfigurableClassData
    from sqlalchemy.engine import Connection, CursorResult, Engine
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

_LONGEST_BATCH = 1000
_PLANNED = (DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED)


class _Databases:
    """The SQLite files that this process has open. One thread at a time uses them.

    SQLite forbids to have a connection open across a fork: the child would believe its parent's locks to be its own.
    So a fork waits until no other thread is in a connection, and closes all.
    Source: https://sqlite.org/howtocorrupt.html
    """

    _MOST = 16
    """Every run has a file of its own, and a page of the UI may read those of a thousand runs."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self.lock.release, after_in_child=self.lock.release
        )

    def engine(self, address: str, synchronous: Literal["NORMAL", "FULL"]) -> Engine:
        """The engine of a file."""
        with self.lock:
            engine = self._engines.get(address) or _make_engine(address, synchronous)
            self._engines[address] = engine
            self._engines.move_to_end(address)
            while len(self._engines) > self._MOST:
                self._engines.popitem(last=False)[1].dispose()
            return engine

    @contextmanager
    def connect(self, address: str, synchronous: Literal["NORMAL", "FULL"]) -> Iterator[Connection]:
        """A connection in a transaction."""
        with self.lock, self.engine(address, synchronous).begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all files; they are opened again when they are needed. Statements stay compiled, also in a fork."""
        with self.lock:
            for engine in self._engines.values():
                engine.dispose()

    def _before_fork(self) -> None:
        self.lock.acquire()
        self.close()


def _make_engine(address: str, synchronous: Literal["NORMAL", "FULL"]) -> Engine:
    engine = create_engine(
        address,
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=-1,  # who connects while in a connection gets another one, as from Dagster's own storages
    )
    event.listen(engine, "connect", lambda raw, _: raw.execute(f"PRAGMA synchronous={synchronous}"))
    return engine


_DATABASES = _Databases()


def _is_set_up(engine: Engine, *tables: str) -> bool:
    """Whether a file has tables and, as Dagster leaves it, a revision of them.

    Then Dagster would change nothing. It finds that out by loading all scripts of its migrations, for each of the three
    storages of every instance that it makes, which is one a tick of each sensor.
    """
    if not Path(str(engine.url.database)).exists():
        return False
    try:
        with _DATABASES.lock, engine.connect() as connection:
            has_tables = {"alembic_version", *tables} <= {*inspect(connection).get_table_names()}
            revisions = text("SELECT version_num FROM alembic_version")
            return has_tables and connection.execute(revisions).first() is not None
    except DatabaseError:  # locked by who makes it, or damaged: Dagster waits, or says so
        return False


class PooledEventLogStorage(SqliteEventLogStorage):
    """The event logs: one file for each run, and an index of all."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._tables: set[str] = set()
        self._batch: Connection | None = None
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        address = self.conn_string_for_shard(shard)
        with _DATABASES.lock:
            if shard == INDEX_SHARD_NAME and self._batch is not None:  # of this thread, which has the lock
                yield self._batch
                return
            if shard not in self._initialized_dbs:
                self._initdb(_DATABASES.engine(address, "NORMAL"))
                self._initialized_dbs.add(shard)
            with _DATABASES.connect(address, "NORMAL") as connection:
                yield connection

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        """Make the tables of a new file. That of a run is a copy: to make its tables costs as much as a step."""
        path = Path(str(engine.url.database))
        if _is_set_up(engine):
            return
        if not for_index_shard and path.stem != INDEX_SHARD_NAME and not path.exists():
            with suppress(OSError):  # the file system has no hard links
                _copy(self._empty(path.parent), path)
                return
        super()._initdb(engine, for_index_shard)

    def _empty(self, folder: Path) -> Path:
        """A file of no run, made once by each version of Dagster."""
        empty = folder / f"empty-{dagster.__version__}.sqlite"
        if not empty.exists():
            with tempfile.TemporaryDirectory(dir=folder) as own:
                engine = _make_engine(f"sqlite:///{own}/run.db", "NORMAL")
                super()._initdb(engine)
                engine.dispose()  # with its last connection, the write-ahead log is in the file
                _copy(Path(own, "run.db"), empty)
        return empty

    def has_table(self, table_name: str) -> bool:
        """Whether there is a table. Dagster asks at every check's event; a table that is there stays."""
        if table_name not in self._tables:
            with self.index_connection() as connection:
                if not inspect(connection).has_table(table_name):
                    return False
            self._tables.add(table_name)
        return True

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events; those that a run is created with, in one transaction of each of the two files."""
        if not all(entry.dagster_event_type in _PLANNED for entry in events):
            super().store_event_batch(events)
            return
        statements = [self.prepare_insert_event(entry) for entry in events]
        with self.index_connection() as index, self.run_connection(events[0].run_id) as run:
            self._batch = index
            try:
                for entry, statement in zip(events, statements, strict=True):
                    run.execute(statement)
                    event_id = _key_of(index.execute(statement))
                    if entry.dagster_event_type is DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
                        self.store_asset_check_event(entry, event_id)
                    else:
                        self._store_asset_event_tags(index, [entry], [event_id])
                        self._store_asset_event(index, entry, event_id)
            finally:
                self._batch = None

    def watch(self, run_id: str, cursor: str | None, callback: EventHandlerFn) -> None:
        """Call back for every new event of a run.

        New events are in the write-ahead log, which is in the run's file only later: it has to be watched, too.
        """
        observer: BaseObserver | None = self._obs
        if observer is None:
            observer = self._obs = Observer()  # type: ignore[assignment]
            observer.start()
        watchdog = _LogWatchdog(self, run_id, callback, cursor)
        self._watchers[run_id][callback] = (watchdog, observer.schedule(watchdog, self._base_dir, recursive=True))

    def wipe(self) -> None:
        """Delete all events."""
        _DATABASES.close()
        super().wipe()


def _copy(source: Path, path: Path) -> None:
    """Copy a file, whole, unless another process has made one of that name meanwhile."""
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        shutil.copyfile(source, temporary)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _key_of(inserted: CursorResult[Any]) -> int:
    return inserted.inserted_primary_key[0]  # type: ignore[index, no-any-return]


class _LogWatchdog(SqliteEventLogStorageWatchdog):
    @property
    def patterns(self) -> list[str]:
        return [self._log_path, f"{self._log_path}-wal"]

    def on_modified(self, event: FileSystemEvent) -> None:
        """Read what is new, whichever of the two files has it."""
        self._process_log()


class PooledRunStorage(SqliteRunStorage):
    """The runs, with status and tags."""

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        """The storage in a folder, made if it is not there."""
        address = create_db_conn_string(base_dir, "runs")
        if _is_set_up(_DATABASES.engine(address, "FULL"), "instance_info"):
            return cls(address, inst_data)
        return super().from_local(base_dir, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection in a transaction."""
        with _DATABASES.connect(self._conn_string, "FULL") as connection:
            yield connection


class PooledScheduleStorage(SqliteScheduleStorage):
    """The ticks of schedules and sensors."""

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        """The storage in a folder, made if it is not there."""
        address = create_db_conn_string(base_dir, "schedules")
        if _is_set_up(_DATABASES.engine(address, "FULL")):
            return cls(address, inst_data)
        return cast("Self", super().from_local(base_dir, inst_data))

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection in a transaction."""
        with _DATABASES.connect(self._conn_string, "FULL") as connection:
            yield connection


class PooledSqliteStorage(DagsterSqliteStorage):
    """The three storages below `base_dir`, at the places where `DagsterSqliteStorage` has them."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]
        self.base_dir = base_dir
        self._inst_data = inst_data
        self._run_storage = PooledRunStorage.from_local(_runs_directory(base_dir))
        self._event_log_storage = PooledEventLogStorage(_event_logs_directory(base_dir))
        self._schedule_storage = PooledScheduleStorage.from_local(_schedule_directory(base_dir))
        # Without it Dagster gives planned events to the storage one by one.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(_LONGEST_BATCH))

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """`base_dir`, by default the folder of the instance."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, str]
    ) -> Self:
        """What Dagster makes from dagster.yaml."""
        return cls.from_local(config_value.get("base_dir") or os.environ["DAGSTER_HOME"], inst_data)
