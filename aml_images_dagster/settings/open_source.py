"""Settings of open source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from aml_images_dagster.settings.group import Group, Several, check_name_pattern

_INTERNAL_NAMES = (
    # Names that only an organisation's own network resolves; RFC 6762, RFC 8375, and what is customary.
    r"\b[\w.-]+\.(corp|internal|intranet|lan|local|localdomain|home\.arpa|private)\b",
    r"\b[\w-]+\.corp\.[\w.-]+",
    # Registries and feeds that ask for a login.
    r"\b[\w-]+\.azurecr\.(io|cn|us)\b",
    r"\b[\w-]+\.pkgs\.visualstudio\.com\b",
    r"\bpkgs\.dev\.azure\.com\b",
    # Addresses of private networks, RFC 1918; not the version of a package, as in libcublas10=10.2.1.243-1.
    r"(?<!==)\b(10(\.\d{1,3}){3}|192\.168(\.\d{1,3}){2}|172\.(1[6-9]|2\d|3[01])(\.\d{1,3}){2})\b(?![-+~]\w)",
)


@dataclass(frozen=True, slots=True)
class PublicPlace:
    """A public repository.

    Attributes:
        setting: The setting that names it.
        url: URL or folder; empty when it is not configured.
        target: Branch that pull requests go to.
        token: For pushing and for opening pull requests.
    """

    setting: str
    url: str
    target: str
    token: SecretStr | None


class OpenSourceSettings(Group):
    """The sync of the public part of the image folders to an open-source repository."""

    repository: str = Field(
        default="", description="URL or folder of the public git repository; empty: nothing is published."
    )
    target_branch: str = Field(default="main", description="Branch of the public repository that pull requests go to.")
    sync_branch: str = Field(
        default="aml-images/sync",
        description="Branch that the factory pushes: one commit, replaced by each publication.",
    )
    image_folder: str = Field(
        default="{family}/{name}", description="Folder of an image in the public repository; {family} and {name}."
    )
    readme: str = Field(default="README.md", description="File of the public repository with the image table.")
    notes_file: str = Field(
        default="release-notes/{family}/{name}.md",
        description="File of the public repository with the release notes of an image; {family} and {name}. Empty: no "
        "release notes are published.",
    )
    token: SecretStr | None = Field(
        default=None, description="Token for pushing to the public repository and for opening pull requests."
    )
    host: Literal["auto", "github", "azure_devops", "none"] = Field(
        default="auto",
        description="Where pull requests are opened: github, azure_devops, none (only the branch is pushed), or auto "
        "(from the URL).",
    )
    api_url: str = Field(default="", description="Address of the host's API; default: derived from the URL.")
    author_name: str = Field(default="aml-images", description="Author of the commits.")
    author_email: str = Field(
        default="aml-images@users.noreply.github.com", description="E-mail address of the author of the commits."
    )
    internal_names: Several[str] = Field(
        default=(),
        description="Regular expressions of names that must not become public, in addition to the built-in ones.",
    )
    binary_files: Several[str] = Field(
        default=(), description="Patterns of files that may be published although they are not text, e.g. */logo.png."
    )
    after_release: bool = Field(default=False, description="Publish the sources of an image when it is released.")
    docs_repository: str = Field(
        default="", description="URL or folder of the git repository with the registry's documentation; empty: none."
    )
    docs_token: SecretStr | None = Field(default=None, description="Token for the documentation repository.")
    docs_target_branch: str = Field(
        default="main", description="Branch of the documentation repository that pull requests go to."
    )
    docs_folder: str = Field(
        default="teams/azureml/{name}", description="Folder of an image's documentation there; {family} and {name}."
    )

    docs_fleet: str = Field(
        default="fleet.html",
        description="File of the documentation repository with the page of all images in production; empty: none.",
    )

    @field_validator("internal_names")
    @classmethod
    def _compiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return value

    @field_validator("image_folder", "docs_folder", "notes_file")
    @classmethod
    def _names_every_image(cls, value: str, field: ValidationInfo) -> str:
        if not value and field.field_name == "notes_file":
            return value
        check_name_pattern(value, "{family}/{name}")
        if value.startswith("/") or ".." in value.split("/"):
            raise ValueError("write a relative path with {name} and perhaps {family}, e.g. {family}/{name}")
        return value.strip("/")

    @field_validator("docs_fleet")
    @classmethod
    def _is_a_page(cls, value: str) -> str:
        if value and (not value.endswith(".html") or value.startswith("/") or ".." in value.split("/")):
            raise ValueError("write a relative path that ends with .html, e.g. fleet.html")
        return value

    @field_validator("repository", "docs_repository")
    @classmethod
    def _without_password(cls, value: str) -> str:
        if re.match(r"https?://[^/]*@", value):
            raise ValueError("a user name or password is no part of it; give the token as a setting of its own")
        return value

    @model_validator(mode="after")
    def _two_places(self) -> Self:
        if self.repository and self.repository == self.docs_repository:
            raise ValueError("repository and docs_repository are the same, and each would replace the other's branch")
        return self

    @property
    def internal_name_patterns(self) -> tuple[str, ...]:
        """All patterns: those that the factory knows, and the configured ones."""
        return _INTERNAL_NAMES + self.internal_names

    @property
    def source_place(self) -> PublicPlace:
        """Where sources are published."""
        return PublicPlace("repository", self.repository, self.target_branch, self.token)

    @property
    def docs_place(self) -> PublicPlace:
        """Where the registry's documentation is published."""
        return PublicPlace("docs_repository", self.docs_repository, self.docs_target_branch, self.docs_token)
