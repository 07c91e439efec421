"""A registry of the tests' own, which they may stop and start again."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

from aml_images_dagster.errors import FactoryError
from aml_images_dagster.registry.oci import OciRegistry

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 20


class OwnRegistry:
    """A context manager.

    Args:
        folder: Where it keeps everything.

    Attributes:
        host: Host and port; the same after each start.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.host = f"127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        (self._folder / "registry.yml").write_text(
            "version: 0.1\nlog: {level: warn}\n"
            f"storage: {{filesystem: {{rootdirectory: {self._folder}}}, delete: {{enabled: true}}}}\n"
            f'http: {{addr: "{self.host}"}}\n'
        )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGTERM)

    def start(self) -> None:
        """Start the registry unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        with (self._folder / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self._folder / "registry.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                OciRegistry(self.host).ping()
            except FactoryError:
                assert time.monotonic() < deadline, f"the registry does not start: {self._folder}/registry.log"
                time.sleep(0.1)
            else:
                return

    def end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(_SECONDS)
