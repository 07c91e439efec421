"""Which version of the SDK submits the jobs, and whether there is a newer one.

The scenarios show that images work with the SDK that customers use, which is the newest one.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
from importlib import metadata

_PACKAGE = "azure-ai-ml"
_SECONDS = 30


def sdk() -> str:
    """Name and version of the installed SDK."""
    return f"{_PACKAGE} {metadata.version(_PACKAGE)}"


class Inquiry:
    """What is asked of the package index, in a process beside this one: nobody waits, and no thread does.

    Asked is pip, so that its configuration says where the index is (`pip config`, PIP_INDEX_URL, proxies,
    certificates).
    """

    def __init__(self) -> None:
        ask = [sys.executable, "-m", "pip", "index", "versions", _PACKAGE, "--json", "--disable-pip-version-check"]
        self._process = subprocess.Popen(
            ask, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._lock = threading.Lock()

    def answered(self) -> bool:
        """Whether the index has answered, or failed to."""
        return self._process.poll() is not None

    def warning(self) -> str:
        """A sentence when the index has a newer SDK; empty else, and when the answer takes too long."""
        with self._lock:  # cached_property has none
            return self._warning

    def end(self) -> None:
        """Ask no longer."""
        self._process.kill()
        self._process.communicate()

    @functools.cached_property
    def _warning(self) -> str:
        versions = self._versions()
        if metadata.version(_PACKAGE) not in versions[1:]:
            return ""
        return f"jobs were submitted with {sdk()}, and {versions[0]} is there: update the lock file"

    def _versions(self) -> list[str]:
        """All that the package index has for this Python, newest first; empty when it cannot be asked."""
        try:
            answer, _ = self._process.communicate(timeout=_SECONDS)
            return list(json.loads(answer)["versions"])
        except subprocess.TimeoutExpired:
            self.end()
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return []


@functools.cache
def newest() -> Inquiry | None:
    """Ask whether there is a newer SDK, once in a process; None when nobody can be asked."""
    try:
        return Inquiry()
    except OSError:
        return None


def warning() -> str:
    """See `Inquiry.warning`."""
    inquiry = newest()
    return inquiry.warning() if inquiry else ""
