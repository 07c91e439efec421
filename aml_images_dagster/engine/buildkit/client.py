"""One call of buildx, from its start to its end: with a deadline, and ended with everything that it has begun."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import time
from typing import IO, TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aml_images_dagster.engine.buildkit.progress import Progress

_LOOK_SECONDS = 1.0
_END_SECONDS = 10.0
_PIECE_BYTES = 65536

Ending = Literal["done", "failed", "killed", "deadline", "push deadline"]


def follow_call(
    command: Sequence[str],
    environment: Mapping[str, str],
    progress: Progress,
    *,
    seconds: float,
    push_seconds: float,
    still_wanted: Callable[[], None],
) -> Ending:
    """Run buildx and pass on its progress.

    A builder ends what it does for a client that goes away, whatever ended the client: the engine's BuildKit kills the
    processes of a RUN within half a second.

    Args:
        command: The command line.
        environment: All its variables.
        progress: Receives what it writes.
        seconds: How long it may take.
        push_seconds: How long its push may take. A registry that never answers would hold it for ever.
        still_wanted: Asked again and again; raises when the result is not wanted any more.
    """
    process = subprocess.Popen(
        [*_ends_with_us(), *command],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C is for us, and we end it
    )
    deadline = time.monotonic() + seconds
    try:
        with cast("IO[bytes]", process.stderr) as stderr, selectors.DefaultSelector() as selector:
            selector.register(stderr, selectors.EVENT_READ)
            looked = time.monotonic()
            while True:
                if selector.select(_LOOK_SECONDS):
                    piece = os.read(stderr.fileno(), _PIECE_BYTES)
                    if not piece:
                        break
                    progress.take(piece)
                now = time.monotonic()
                if now >= deadline:
                    return "deadline"
                if progress.pushing_since is not None and now >= progress.pushing_since + push_seconds:
                    return "push deadline"
                if now >= looked + _LOOK_SECONDS:
                    looked = now
                    still_wanted()
        code = process.wait(_END_SECONDS)
        return "killed" if code == -signal.SIGKILL else "failed" if code else "done"
    finally:
        _end(process)
        progress.end()


def _ends_with_us() -> list[str]:
    """A command in front of another that ends it when the thread that started it ends, killed or not.

    Source: https://man7.org/linux/man-pages/man1/setpriv.1.html, of the package util-linux.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, how)
            process.wait(_END_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
