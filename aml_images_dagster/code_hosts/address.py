"""The host of a git remote and the address of its API, from the remote's URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from aml_images_dagster.catalog import git
from aml_images_dagster.errors import BadInput

Kind = Literal["github", "azure_devops", "none"]
Wanted = Literal["auto", "github", "azure_devops", "none"]

# https://HOST/PATH, ssh://git@HOST:PORT/PATH and git@HOST:PATH
_URL = re.compile(r"(?:[a-z+]+://)?(?:[^@/]*@)?(?P<host>[^/:]+)(?::\d+)?[/:](?P<path>.+?)(?:\.git)?/?")


@dataclass(frozen=True, slots=True)
class HostAddress:
    """A host and the repository there.

    Attributes:
        kind: Which API it speaks; none for a plain git remote.
        api_url: Where the API is.
        repository: OWNER/NAME at GitHub, PROJECT/NAME at Azure DevOps.
    """

    kind: Kind
    api_url: str = ""
    repository: str = ""

    @property
    def refs(self) -> str:
        """The refs that are heads of pull requests there."""
        return "refs/pull/*/merge" if self.kind == "azure_devops" else "refs/pull/*/head"


def address_of(url: str, wanted: Wanted, group: str, api_url: str = "", repository: str = "") -> HostAddress:
    """The host of a remote, by its URL and the settings.

    Args:
        url: Of the remote.
        wanted: The kind of host that the settings name; `auto` derives it from the URL.
        group: The group of settings, for messages.
        api_url: Where the API is; empty derives it from the URL.
        repository: The repository there; empty derives it from the URL.

    Raises:
        BadInput: The settings name a kind of host, but its address cannot be derived.
    """
    found = _by_url(url, wanted)
    if wanted == "none" or found.kind == "none":
        return HostAddress("none")
    address = HostAddress(found.kind, api_url or found.api_url, repository or found.repository)
    if not address.api_url or address.repository.count("/") != 1:
        raise BadInput(
            f"{git.without_credentials(url)} does not name a repository of a known host",
            where=group,
            hint="Write https://github.com/OWNER/NAME or https://dev.azure.com/ORGANISATION/PROJECT/_git/NAME, "
            f"or set {group}.api_url and {group}.repository.",
        )
    return address


def _by_url(url: str, wanted: Wanted) -> HostAddress:
    match = _URL.fullmatch(url) if not url.startswith(("/", ".", "file:")) else None
    host = match["host"].lower() if match else ""
    parts = [unquote(part) for part in match["path"].split("/")] if match else []
    if host == "ssh.dev.azure.com" and len(parts) == 4:  # v3/ORGANISATION/PROJECT/NAME
        return HostAddress("azure_devops", f"https://dev.azure.com/{parts[1]}", f"{parts[2]}/{parts[3]}")
    if "_git" in parts and (wanted == "azure_devops" or host == "dev.azure.com" or host.endswith(".visualstudio.com")):
        before, name = parts[: parts.index("_git")], parts[-1]
        project = before[-1] if before else name
        return HostAddress("azure_devops", "/".join([f"https://{host}", *before[:-1]]), f"{project}/{name}")
    if wanted == "azure_devops":
        return HostAddress("azure_devops")
    if host == "github.com" or wanted == "github":
        api = "https://api.github.com" if host in ("github.com", "") else f"https://{host}/api/v3"
        return HostAddress("github", api, "/".join(parts))
    return HostAddress("none")
