"""Logins for buildx: a credential helper that asks this process, each time that buildx wants one.

So no password is on a disk, in an argument or in an environment, and a build that lasts longer than a token gets a new
one. Source of the helper's protocol: https://github.com/docker/docker-credential-helpers.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Listener
from typing import TYPE_CHECKING

from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from aml_images_dagster.engine.interface import LoginFor

_NAME = "aml-images"
_VARIABLE = "AML_IMAGES_LOGINS"
_HELPER = f"""#!{{python}} -IS
import os, sys
from multiprocessing.connection import Client
if sys.argv[1:] != ["get"]:
    sys.exit(1)
port, _, key = os.environ["{_VARIABLE}"].partition(":")
with Client(("127.0.0.1", int(port)), authkey=bytes.fromhex(key)) as factory:
    factory.send_bytes(sys.stdin.buffer.read().strip() or b" ")
    answer = factory.recv_bytes().decode()
print(answer or "credentials not found in native keychain")
sys.exit(not answer)
"""


@contextmanager
def served_logins(folder: Path, login_for: LoginFor) -> Iterator[dict[str, str]]:
    """Write a client configuration with a helper into a folder; while this lasts, the helper has answers.

    Args:
        folder: The configuration of one call.
        login_for: Gives a login for a registry's host, or None.

    Yields:
        Variables for the environment of the call.
    """
    (folder / "config.json").write_text(json.dumps({"credsStore": _NAME}))
    helper = folder / f"docker-credential-{_NAME}"
    helper.write_text(_HELPER.format(python=sys.executable))
    helper.chmod(0o700)
    key = secrets.token_bytes(32)
    with Listener(("127.0.0.1", 0), authkey=key) as listener:
        port = int(listener.address[1])
        thread = threading.Thread(target=_serve, args=(listener, login_for), name="logins", daemon=True)
        thread.start()
        try:
            yield {_VARIABLE: f"{port}:{key.hex()}", "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
        finally:
            _wake(port, key)
            thread.join(10)


def _serve(listener: Listener, login_for: LoginFor) -> None:
    while True:
        with suppress(AuthenticationError, EOFError, OSError), listener.accept() as connection:
            host = connection.recv_bytes(1000).decode(errors="replace")
            if not host:
                return
            connection.send_bytes(_answer(host.strip(), login_for))


def _answer(host: str, login_for: LoginFor) -> bytes:
    try:
        login = login_for(host)
    except FactoryError:  # buildx says that it has none, and the push says the rest
        login = None
    if login is None:
        return b""
    return json.dumps({"ServerURL": host, "Username": login.username, "Secret": login.password}).encode()


def _wake(port: int, key: bytes) -> None:
    """Let the thread end: closing a socket does not wake the one that waits for a connection."""
    from multiprocessing.connection import Client

    with suppress(OSError, EOFError, AuthenticationError):
        connection: Connection
        with Client(("127.0.0.1", port), authkey=key) as connection:
            connection.send_bytes(b"")
