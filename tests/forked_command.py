"""A command in a process of its own that starts at once: a fork of a server that has imported the factory before."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection
    from pathlib import Path

_PRELOAD = "tests.preload"


class ForkedCommand:
    """What tests use of `subprocess.Popen`; the command is its own process group.

    Args:
        main: Runs the command to its end; the name of a function of a module.
        arguments: Of the command.
        folder: Where it runs.
        environment: All its variables.
    """

    def __init__(
        self, main: Callable[[], object], arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.args = arguments
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([_PRELOAD])
        (out, to_out), (err, to_err) = context.Pipe(duplex=False), context.Pipe(duplex=False)
        self._process = context.Process(target=_be, args=(main, arguments, folder, dict(environment), to_out, to_err))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        multiprocessing.util.Finalize(None, self.kill, exitpriority=0)  # else this process would wait for it at its end
        for sender in (to_out, to_err):
            sender.close()
        self._said = _Reader(out), _Reader(err)

    @property
    def returncode(self) -> int | None:
        """Its exit code, the negative number of the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Standard output and standard error, once it has ended, and all that it has started and that could print."""
        deadline = None if timeout is None else time.monotonic() + timeout
        out, err = (reader.text(deadline) for reader in self._said)
        if out is None or err is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(timeout)
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class _Reader(threading.Thread):
    """Reads what comes out of a pipe, until nobody can write to it any more."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._read = bytearray()
        self.start()

    def run(self) -> None:
        while piece := os.read(self._pipe.fileno(), 65536):
            self._read += piece
        self._pipe.close()

    def text(self, deadline: float | None) -> str | None:
        """All of it; None if there may be more at the deadline."""
        self.join(None if deadline is None else max(0, deadline - time.monotonic()))
        return None if self.is_alive() else self._read.decode()


def _be(
    main: Callable[[], object],
    arguments: tuple[str, ...],
    folder: Path,
    environment: Mapping[str, str],
    out: Connection,
    err: Connection,
) -> None:
    """Be the process of a command, as it would be if Python had just started."""
    os.setsid()
    code = become(main, arguments, folder, environment, out.fileno(), err.fileno())
    atexit._run_exitfuncs()  # a fork of the server ends without
    sys.exit(code)


def become(
    main: Callable[[], object],
    arguments: tuple[str, ...],
    folder: Path,
    environment: Mapping[str, str],
    out: int,
    err: int,
) -> int:
    """Let this process, a copy that ends with it, be a command; its exit code.

    Args:
        main: Runs the command to its end.
        arguments: Of the command.
        folder: Where it runs.
        environment: All its variables.
        out: File to which it prints.
        err: File to which it prints errors.
    """
    for number, place in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(place, number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False)  # noqa: SIM115 - for the life of the process
        for number, mode in enumerate(("r", "w", "w"))
    )
    sys.argv = ["aml-images", *arguments]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself would end
        traceback.print_exc()
        code = 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    return code
