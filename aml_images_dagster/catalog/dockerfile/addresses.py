"""Which sources of ADD are fetched: files at an address, and git repositories.

In code `isHTTPSource` of BuildKit's dockerfile2llb and `ParseGitRef` of its gitutil. That of a file is `http://` or
`https://` as it stands there; for a repository the scheme may have capitals.
"""

from __future__ import annotations

import re

_FILE = re.compile(r"https?://")
_REPOSITORY = re.compile(r"(?i:git|ssh)://|[\w.-]+@[\w.-]+:|(?i:https?)://[^?#]*\.git(?:[?#]|$)", re.ASCII)
# Some versions take `host:path` for a repository, and paths may have escapes: `https://host/a%2egit`.
_PERHAPS = re.compile(r"(?:[\w.-]+@)?[\w.-]+:", re.ASCII)


def is_file_address(source: str) -> bool:
    """Whether a source is the address of a file."""
    return _FILE.match(source) is not None


def is_fetched(source: str) -> bool:
    """Whether a source is the address of a file or of a repository, for any version of BuildKit."""
    return is_file_address(source) or _REPOSITORY.match(source) is not None


def may_be_fetched(source: str) -> bool:
    """Whether a source is an address for some version of BuildKit; others take it for a file of the context."""
    return _PERHAPS.match(source) is not None
