"""A Postgres of a test's own: Debian's program, a new folder, a port of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

_USER = "postgres"
"""Debian's own; the server refuses to run as root."""


class PostgresServer(AbstractContextManager["PostgresServer"]):
    """The server, which runs from the beginning.

    Attributes:
        environment: The variables by which clients find it, see deploy/dagster-postgres.yaml.
    """

    def __init__(self) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not programs or os.geteuid() != 0:
            pytest.fail("this test needs Debian's postgresql, and root to start it: scripts/test installs it")
        self._bin = programs[-1].parent
        self._folder = Path(tempfile.mkdtemp(prefix="aml-images-postgres-"))
        shutil.chown(self._folder, _USER, _USER)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.environment = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": "dagster",
            "PGPASSWORD": secrets.token_hex(16),
            "PGDATABASE": _USER,
        }
        password = self._folder / "password"
        password.write_text(self.environment["PGPASSWORD"])
        shutil.chown(password, _USER, _USER)
        user = ("--username", self.environment["PGUSER"], "--pwfile", str(password))
        self._run("initdb", "--pgdata", str(self._data), "--auth", "scram-sha-256", "--no-sync", *user)
        self.start()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        port, host = self.environment["PGPORT"], self.environment["PGHOST"]
        options = f"-p {port} -k {self._folder} -c listen_addresses={host} -c fsync=off"
        self._control("start", "--options", options, "--log", str(self._folder / "log"))

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; `immediate` is a crash."""
        self._control("stop", "--mode", mode)

    def query(self, sql: str) -> str:
        """The answer to a query, a line for each row."""
        command = [str(self._bin / "psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--command", sql]
        return subprocess.run(
            command, env=os.environ | self.environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def __exit__(self, *_: object) -> None:
        subprocess.run(
            [*self._as_user(), *self._pg_ctl("stop", "--mode", "immediate")], capture_output=True, check=False
        )
        shutil.rmtree(self._folder)

    def _control(self, *arguments: str) -> None:
        subprocess.run([*self._as_user(), *self._pg_ctl(*arguments)], check=True, stdout=subprocess.DEVNULL, timeout=60)

    def _pg_ctl(self, *arguments: str) -> list[str]:
        return [str(self._bin / "pg_ctl"), "--pgdata", str(self._data), "--wait", *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as_user(), str(self._bin / program), *arguments], check=True, capture_output=True, timeout=120
        )

    @staticmethod
    def _as_user() -> list[str]:
        return ["runuser", "-u", _USER, "--"]
