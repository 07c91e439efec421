"""Hosts of pull requests: GitHub and Azure DevOps; which of them the configured remote is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog import git
from aml_images_dagster.code_hosts.address import HostAddress, address_of

if TYPE_CHECKING:
    from aml_images_dagster.pull_requests.hosts.interface import PullRequestHost
    from aml_images_dagster.settings import Settings


def host_address(settings: Settings) -> HostAddress:
    """The host of the remote whose pull requests are built.

    Raises:
        BadInput: The address of the host cannot be derived from the settings.
    """
    given = settings.pull_requests
    url = git.remote_url(settings.repo, given.remote)
    return address_of(url, given.host, "pull_requests", given.api_url, given.repository)


def open_host(settings: Settings) -> tuple[HostAddress, PullRequestHost | None]:
    """The remote of pull requests, and its host; without a token there is no host.

    Raises:
        BadInput: The address of the host cannot be derived from the settings.
    """
    address = host_address(settings)
    token = settings.pull_requests.token
    if token is None or address.kind == "none":
        return address, None
    if address.kind == "github":
        from aml_images_dagster.pull_requests.hosts.github import GitHubHost  # loads a large library

        return address, GitHubHost(address, token.get_secret_value())
    from aml_images_dagster.pull_requests.hosts.azure_devops import AzureDevOpsHost

    return address, AzureDevOpsHost(address, token.get_secret_value())
