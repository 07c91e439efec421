"""Which version of the SDK submits the jobs, and whether there is a newer one.

The scenarios show that images work with the SDK that customers use, which is the newest one.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
from concurrent.futures import Future
from importlib import metadata

_PACKAGE = "azure-ai-ml"
_SECONDS = 30


def sdk() -> str:
    """Name and version of the installed SDK."""
    return f"{_PACKAGE} {metadata.version(_PACKAGE)}"


@functools.cache
def outdated() -> Future[str]:
    """Ask whether there is a newer SDK, once in a process, without waiting for the package index.

    Returns:
        A sentence if the package index has a newer SDK than the installed one; otherwise empty, also if unknown.
    """
    answer: Future[str] = Future()

    def ask() -> None:
        try:
            answer.set_result(_outdated())
        except Exception:  # noqa: BLE001 - callers must not wait forever, and no job fails by this
            answer.set_result("")

    threading.Thread(target=ask, name="newest SDK", daemon=True).start()
    return answer


def warning(answer: Future[str]) -> str:
    """The sentence of `outdated`; empty when it takes too long."""
    try:
        return answer.result(_SECONDS)
    except TimeoutError:
        return ""


def _outdated() -> str:
    versions = _versions()
    installed = metadata.version(_PACKAGE)
    if installed not in versions[1:]:
        return ""
    return f"jobs were submitted with {sdk()}, and {versions[0]} is available: update the lock file"


def _versions() -> list[str]:
    """All that the package index has for this Python, newest first; empty when it cannot be asked.

    Asked is pip, so that its configuration says where the index is (`pip config`, PIP_INDEX_URL, proxies,
    certificates).
    """
    ask = [sys.executable, "-m", "pip", "index", "versions", _PACKAGE, "--json", "--disable-pip-version-check"]
    try:
        answer = subprocess.run(ask, capture_output=True, timeout=_SECONDS, check=True, stdin=subprocess.DEVNULL)
        return list(json.loads(answer.stdout)["versions"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return []
