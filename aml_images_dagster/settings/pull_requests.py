"""Settings of pull requests."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from aml_images_dagster.settings.group import Group, Seconds, split

SAME_REPOSITORY = "same-repository"
EVERYONE = "everyone"
AUTHOR = "author:"
LABEL = "label:"
DEFAULT_REMOTE = "origin"


class PullRequestSettings(Group):
    """Builds of pull requests."""

    remote: str = Field(
        default=DEFAULT_REMOTE,
        description="Remote of the clone, or URL or folder, whose pull requests and main branch are built.",
    )
    host: Literal["auto", "github", "azure_devops", "none"] = Field(
        default="auto",
        description="Host of the remote: github, azure_devops, none (only git), or auto (from the URL).",
    )
    token: SecretStr | None = Field(
        default=None,
        description="Token of the host, for reading who opened a pull request and for reporting. None: neither.",
    )
    api_url: str = Field(
        default="", description="Address of the host's API; default: derived from the URL of the remote."
    )
    repository: str = Field(
        default="",
        description="The repository at the host: OWNER/NAME at GitHub, PROJECT/NAME at Azure DevOps; "
        "default: derived from the URL of the remote.",
    )
    refs: str = Field(
        default="",
        description="Refs of the remote that are heads of pull requests, the number in place of *; "
        "default: refs/pull/*/merge at Azure DevOps, else refs/pull/*/head.",
    )
    target_branch: str = Field(
        default="",
        description="Branch that pull requests are compared with, and that schedules and sensors build; default: the "
        "main branch of the remote.",
    )
    allow: str = Field(
        default=SAME_REPOSITORY,
        description="Whose pull requests are built, any of these, separated by ';': same-repository, author:NAME, "
        "label:NAME, everyone. See docs/security.md.",
    )
    nothing_changed: Literal["nothing", "all"] = Field(
        default="nothing", description="What is built for a pull request that changes no image."
    )
    interval_seconds: int = Field(default=30, ge=1, description="Time between two polls of the remote, in seconds.")
    max_images: int = Field(default=200, ge=1, description="Most images that are built for a pull request.")
    max_files: int = Field(default=5000, ge=1, description="Most files that a pull request may change.")
    max_context_mb: float = Field(
        default=500, gt=0, description="Most data, in 10^6 bytes, that the changed files of a pull request may have."
    )
    max_fetch_mb: float = Field(
        default=1000, gt=0, description="Most data, in 10^6 bytes, that is fetched for one pull request."
    )
    max_fetch_seconds: Seconds = Field(
        default=40,
        gt=0,
        le=50,
        description="Time limit for fetching one pull request. Dagster ends a tick after a minute.",
    )
    build_network: str = Field(
        default="",
        description="Network of RUN instructions in builds of pull requests, instead of build_network; default: the "
        "engine's own.",
    )
    ui_url: str = Field(
        default="http://127.0.0.1:3000",
        description="Address at which others reach the Dagster UI, for links to runs.",
    )
    webserver_url: str = Field(
        default="",
        description="Address at which the factory reaches the webserver, without a sign-in between them: for a reload "
        "when a pull request adds an image; default: ui_url.",
    )

    @field_validator("allow")
    @classmethod
    def _names_rules(cls, value: str) -> str:
        for rule in split(value):
            named = rule.startswith((AUTHOR, LABEL)) and not rule.endswith(":")
            if rule not in (SAME_REPOSITORY, EVERYONE) and not named:
                raise ValueError(f"{rule!r} is none of {SAME_REPOSITORY}, {AUTHOR}NAME, {LABEL}NAME, {EVERYONE}")
        return value

    @field_validator("refs")
    @classmethod
    def _has_a_number(cls, value: str) -> str:
        if value and (value.count("*") != 1 or not value.startswith("refs/")):
            raise ValueError("write one * in the place of the number, e.g. refs/pull/*/head")
        return value

    @property
    def reload_url(self) -> str:
        """Address of the webserver that is asked to reload the code location."""
        return self.webserver_url or self.ui_url

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of `allow`."""
        return split(self.allow)
