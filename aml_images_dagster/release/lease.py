"""The lease on production: only its holder changes production, across machines.

A lease is a numbered file in the artifacts store. It is taken by creating the next number, which only one process can,
once the last one was given back, has expired, or is held by a process that died. Its holder renews it, and checks
before each irreversible step that it still holds it; a holder that was suspended for too long does not.
Clocks of releasing machines may differ by seconds, not by a minute.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from pydantic import AwareDatetime, ConfigDict, ValidationError

from aml_images_dagster.builds.artifacts import create_atomically, read_whole, write_atomically, written_at
from aml_images_dagster.builds.ledger import LEASE_SECONDS
from aml_images_dagster.builds.process import is_dead, this_process
from aml_images_dagster.builds.records import Record
from aml_images_dagster.errors import BadInput, FactoryError, ReleaseFailed, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from upath import UPath

_POLL_SECONDS = 1.0


class _Holder(Record):
    """The file of a lease: who has it for what, and until when unless it is renewed.

    A newer version may write more than this one knows.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    who: str
    purpose: str
    process: str
    until: AwareDatetime

    def is_over(self) -> bool:
        return self.until <= datetime.now(UTC) or is_dead(self.process)


class Lease:
    """A context in which no other process changes production.

    Args:
        folder: Where leases are kept.
        who: The holder.
        purpose: What it is for, shown to those who wait.
        wait_seconds: How long to wait for it.
        report: Called once for each other holder.
        seconds: How long it lasts without being renewed.
    """

    def __init__(
        self,
        folder: UPath,
        who: str,
        purpose: str,
        *,
        wait_seconds: float,
        report: Callable[[str], None],
        seconds: float = LEASE_SECONDS,
    ) -> None:
        self._folder = folder
        self._who = who
        self._purpose = purpose
        self._patience = wait_seconds
        self._report = report
        self._seconds = seconds
        self._number = 0
        self._runs_out = 0.0
        self._given_back = threading.Event()
        self._renewal = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease.

        Raises:
            BadInput: Another process has it for too long.
        """
        deadline = time.monotonic() + self._patience
        told = 0
        while (other := self._take()) is not None:
            number, holder = other
            if time.monotonic() > deadline:
                raise BadInput(
                    f"{holder.who} has been changing production for too long: {holder.purpose}",
                    where=str(self._folder),
                    hint="Wait until that is done, and try again.",
                )
            if number != told:
                told = number
                self._report(f"waiting for {holder.who}: {holder.purpose}")
            time.sleep(_POLL_SECONDS)
        self._renewal.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._given_back.set()
        self._renewal.join()
        # A store that is away must not hide how the work has ended: a lease that is not given back expires.
        with suppress(OSError, FactoryError):
            if self.is_held():
                self._write(datetime.now(UTC))

    def is_held(self) -> bool:
        """Whether no other process can hold it."""
        return time.monotonic() < self._runs_out and self._numbers()[-1:] == [self._number]

    def check(self) -> None:
        """Stop if another process may hold it by now.

        Raises:
            ReleaseFailed: It has expired.
        """
        if not self.is_held():
            raise ReleaseFailed(
                "this process was suspended for so long that another one may hold the lease",
                where=self._purpose,
                hint="Run it again: what is done stays done.",
            )

    def _take(self) -> tuple[int, _Holder] | None:
        """Take it, or return who has it."""
        numbers = self._numbers()
        last = numbers[-1] if numbers else 0
        if last and (holder := self._read(last)) is not None and not holder.is_over():
            return last, holder
        self._number, before = last + 1, time.monotonic()
        try:
            create_atomically(self._path(self._number), self._content(self._until()))
        except FileExistsError:
            return self._take()
        if self._numbers()[-1] != self._number:  # the files that we had seen are history already
            self._path(self._number).unlink(missing_ok=True)
            return self._take()
        self._runs_out = before + self._seconds
        for number in numbers:
            self._path(number).unlink(missing_ok=True)
        return None

    def _keep(self) -> None:
        while not self._given_back.wait(self._seconds / 4):
            before = time.monotonic()
            try:
                if self.is_held():
                    self._write(self._until())
                    self._runs_out = before + self._seconds
            except (OSError, Unreachable):  # the store is away for a moment; the next time comes before it runs out
                continue

    def _until(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._seconds)

    def _content(self, until: datetime) -> bytes:
        holder = _Holder(who=self._who, purpose=self._purpose, process=this_process(), until=until)
        return (holder.model_dump_json(indent=2) + "\n").encode()

    def _write(self, until: datetime) -> None:
        write_atomically(self._path(self._number), self._content(until))

    def _path(self, number: int) -> UPath:
        return self._folder / f"{number:06}.json"

    def _numbers(self) -> list[int]:
        filesystem, folder = self._folder.fs, self._folder.path
        filesystem.invalidate_cache(folder)
        if not filesystem.exists(folder):
            return []
        names = (path.rpartition("/")[2] for path in filesystem.ls(folder, detail=False))
        return sorted(int(name.removesuffix(".json")) for name in names if name[0] != "." and name.endswith(".json"))

    def _read(self, number: int) -> _Holder | None:
        """Its holder; None if that file is gone.

        One that cannot be read has a holder, and expires as if it had been renewed when it was written.
        """
        path = self._path(number)
        try:
            return _Holder.model_validate_json(read_whole(path))
        except FileNotFoundError:
            return None
        except ValidationError:
            try:
                written = written_at(path)
            except FileNotFoundError:
                return None
            until = written + timedelta(seconds=self._seconds)
            return _Holder(who="an unknown holder", purpose=f"{path} cannot be read", process="", until=until)
