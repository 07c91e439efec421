"""The BuildKit inside of an engine as a socket of its own: a remote builder without the image moby/buildkit.

An engine serves BuildKit's gRPC behind a request that upgrades the connection to HTTP/2. Source:
https://github.com/moby/moby, api/server/router/grpc.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from aml_images_dagster.engine.buildkit.buildx import Buildx

if TYPE_CHECKING:
    from pathlib import Path

_UPGRADE = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"


class BuildKitSocket:
    """A context manager.

    Args:
        engine: Socket of the engine.
        folder: Where the new socket is made; short, because a socket's path is short.

    Attributes:
        url: For `buildx create`.
    """

    def __init__(self, engine: str, folder: Path) -> None:
        self._engine = engine.removeprefix("unix://")
        self._path = str(folder / "buildkit.sock")
        self.url = f"unix://{self._path}"
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, daemon=True).start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Go away, and take all connections along."""
        with suppress(RuntimeError):  # it has gone
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        async def listen() -> None:
            self._server = await asyncio.start_unix_server(self._serve, self._path)
            self._started.set()

        self._loop.run_until_complete(listen())
        self._loop.run_forever()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        with suppress(RuntimeError):
            self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._engine)
        up_writer.write(_UPGRADE)
        head = await up_reader.readuntil(b"\r\n\r\n")
        if b" 101 " in head.partition(b"\r\n")[0]:
            await asyncio.gather(_splice(reader, up_writer), _splice(up_reader, writer))
        for each in (writer, up_writer):
            each.close()


@dataclass
class RemoteBuilder:
    """A builder of buildx on the BuildKit of an engine, as if that were elsewhere.

    Attributes:
        engine: URL of the engine.
        folder: Where the socket is made; short, because a socket's path is short.
        configuration: Where buildx keeps its builders, see BUILDX_CONFIG.
        name: For `builder` in the settings.
        socket: A context manager; while it is not entered the builder is lost.
    """

    engine: str
    folder: Path
    configuration: Path
    name: str = field(default_factory=lambda: f"remote-{uuid.uuid4().hex[:8]}")
    socket: BuildKitSocket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = BuildKitSocket(self.engine, self.folder)
        subprocess.run(
            [str(Buildx().program), "create", "--name", self.name, "--driver", "remote", self.socket.url],
            check=True,
            capture_output=True,
            env={**os.environ, "DOCKER_CONFIG": str(self.folder), "BUILDX_CONFIG": str(self.configuration)},
        )


async def _splice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, OSError, asyncio.CancelledError):
        pass
    finally:
        writer.close()
