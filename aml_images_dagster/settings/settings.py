"""Every setting in one typed object."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from aml_images_dagster.settings.azure import AzureSettings
from aml_images_dagster.settings.group import (
    Days,
    File,
    Group,
    Host,
    Hours,
    Minutes,
    Pairs,
    Seconds,
    Several,
    check_home,
    check_name_pattern,
)
from aml_images_dagster.settings.open_source import OpenSourceSettings
from aml_images_dagster.settings.pull_requests import PullRequestSettings
from aml_images_dagster.settings.release import ReleaseSettings
from aml_images_dagster.settings.trust import TrustSettings
from aml_images_dagster.settings.vulnerabilities import VulnerabilitySettings

ENV_PREFIX = "AML_IMAGES_"


class UpstreamSettings(Group):
    """Builds that a changed external base starts."""

    interval_seconds: int = Field(
        default=300, ge=5, description="Time between two polls of the digests of external bases, in seconds."
    )
    batch_minutes: Minutes = Field(
        default=30,
        ge=0,
        description="How long to collect changes of bases before their build starts.",
    )
    retry_minutes: Minutes = Field(
        default=30, gt=0, description="Wait after a failed build of a changed base; doubled after each further failure."
    )
    pause_after_failures: int = Field(
        default=3, ge=1, description="Failed builds after which a changed base is paused until a person resumes it."
    )


class Settings(BaseSettings):
    """What a team configures. `load_settings` is the way to get one."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        env_nested_delimiter="__",
        allow_inf_nan=False,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    profile: Literal["local", "azure"] = Field(default="local", description="Which backends build, test and release.")
    repo: Path = Field(description="Root of the repository that holds the image folders.")
    home: File[Path] = Field(
        default=Path(".aml-images"),
        description="Where state is kept (artifacts, the Dagster instance); relative to the repository.",
    )
    artifacts: File[str] = Field(
        default="", description="Folder of the artifacts, or az://CONTAINER/PREFIX; default: <home>/artifacts."
    )

    source_commit: str = Field(default="", description="Read all files from this commit, not from the working tree.")
    docker_files_path: str = Field(
        default="base_images/docker/public", description="Folders with image folders, separated by ';'."
    )
    image_paths: Several[str] = Field(
        default=(),
        description="How the path of a Dockerfile's folder becomes a family and a name: patterns such as "
        "src/{name}/.devcontainer, of which the first that fits counts; behind ' = ' what the fields make, as in "
        "src/{os}/{arch} = runtime/{os}-{arch} (docs/repositories.md); default: the last two folders.",
    )
    dockerfile_names: Several[str] = Field(
        default=("Dockerfile",),
        description="Names of Dockerfiles, e.g. Containerfile or *.Dockerfile; what the star stands for is the last "
        "part of the image's path.",
    )
    context: str = Field(
        default="folder",
        description="Build context where image.json names none: folder (the Dockerfile's), repository, a path "
        "from the Dockerfile's folder such as .., or /PATH from the root of the repository.",
    )
    tests_path: str = Field(default="base_images/tests", description="Folder of the training scripts.")
    template_tags: Several[str] = Field(
        default=("{{latest-image-tag}}", "{{latest-image-tag:*}}"),
        description="Tags in FROM lines that stand for the newest release of an image; what the star stands for is a "
        "regular expression of the tags that count.",
    )
    published_as: Several[str] = Field(
        default=("mcr.microsoft.com/azureml/{name}",),
        description="Names of an image in FROM lines of others, with {name}, {family} and other fields of image-paths; "
        "a star in a tag stands for any version.",
    )
    production_names: str = Field(
        default="public/azureml/{name}", description="Repository of an image in the production registry."
    )

    staging_registry: Host = Field(default="127.0.0.1:5000", description="Host of the staging registry.")
    production_registry: Host = Field(default="127.0.0.1:5001", description="Host of the production registry.")
    staging_client_id: str | None = Field(default=None, validation_alias=AliasChoices("STAGING_CLIENT_ID"))
    staging_client_secret: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("STAGING_CLIENT_SECRET")
    )
    base_mirrors: Pairs[str] = Field(
        default_factory=dict,
        description="Mirrors of external bases: prefix=mirror, separated by ';': docker.io=mirror.example/hub.",
    )
    trusted_registries: Several[Host] = Field(
        default=(),
        description="Hosts of other registries that may have a private address, lead to one, or do without TLS on this "
        "machine, separated by ';'. Staging, production and the mirrors are trusted anyway.",
    )

    docker_host: str | None = Field(default=None, description="URL of the engine; default: DOCKER_HOST or the socket.")
    windows_docker_host: str | None = Field(default=None, description="URL of a Windows engine, for Windows images.")
    builder: str = Field(
        default="",
        description="Name of a buildx builder for Linux images, as `docker buildx ls` shows it (docker, remote, "
        "kubernetes); default: the BuildKit of the engine.",
    )
    build_cache: str = Field(
        default="",
        description="Repository in a registry where a builder that keeps no cache finds the layers of earlier builds, "
        "e.g. registry.example/cache; default: none.",
    )
    build_secrets: Pairs[str] = Field(
        default_factory=dict,
        description="Where the values of secrets in image.json come from: id=env:VARIABLE or id=file:PATH, separated "
        "by ';': pip=env:PIP_TOKEN.",
    )
    frontends: Pairs[str] = Field(
        default_factory=dict,
        description="Mirrors of the frontends that # syntax= may name, separated by ';': "
        "docker/dockerfile=mirror.example/docker/dockerfile; default: the builder's own.",
    )
    build_network: str | None = Field(default=None, description="Network of RUN instructions, e.g. host.")
    test_emulated: bool = Field(
        default=False,
        description="Test images for several platforms also on those that the engine has to emulate (QEMU), which is "
        "slow; else such platforms are not tested.",
    )
    build_timeout_minutes: Minutes = Field(default=90, gt=0, description="Time limit for building one image.")
    transfer_timeout_minutes: Minutes = Field(
        default=30, gt=0, description="Time limit for one push or pull of one image."
    )
    min_free_gb: float = Field(default=2, ge=0, description="Free space, in 10^9 bytes, that a build needs to start.")
    engine_patience_seconds: Seconds = Field(
        default=120, ge=0, description="How long a build waits for an engine that stopped answering, before it fails."
    )
    host_patience_seconds: Seconds = Field(
        default=300,
        gt=0,
        description="How long a run on another machine, or in another container, may write no heartbeat before it "
        "counts as dead and its build is cleaned up.",
    )
    keep_failed_hours: Hours = Field(default=24, gt=0, description="How long --keep-failed keeps a failed build.")
    keep_staged_days: Days = Field(
        default=15, gt=0, description="How long a build that was not released stays in staging."
    )
    executor: Literal["fork", "multiprocess"] = Field(
        default="fork",
        description="How runs and steps become processes. fork (Linux): steps are forks of their run's process, and "
        "runs that a code server starts are forks of one that has imported everything, which counts when it is "
        "loaded; multiprocess: as Dagster starts them.",
    )
    parallel: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2),
        ge=1,
        le=64,
        description="Images that are built at the same time, over all builds. In the profile local those that a build "
        "tests count, too.",
    )
    parallel_tests: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Images that are tested at the same time, over all builds; default: as many as are built in the "
        "profile local, else 8, which wait for their jobs and take at most 110 MB of memory each.",
    )

    automation: Literal["on", "off"] | None = Field(
        default=None,
        description="Default of the switches of sensors and schedules that start builds; default: off in the profile "
        "local, else on.",
    )

    azure: AzureSettings = AzureSettings()
    pull_requests: PullRequestSettings = PullRequestSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    release: ReleaseSettings = ReleaseSettings()
    open_source: OpenSourceSettings = OpenSourceSettings()
    trust: TrustSettings = TrustSettings()
    vulnerabilities: VulnerabilitySettings = VulnerabilitySettings()

    @field_validator("production_names")
    @classmethod
    def _names_every_image(cls, value: str) -> str:
        return check_name_pattern(value, "public/azureml/{name}")

    @field_validator("build_secrets")
    @classmethod
    def _name_places(cls, value: dict[str, str]) -> dict[str, str]:
        for secret, place in value.items():
            kind, _, name = place.partition(":")
            if kind not in ("env", "file") or not name:
                raise ValueError(f"write {secret}=env:VARIABLE or {secret}=file:PATH, never the value itself")
            if kind == "file":
                check_home(name)
        return value

    @model_validator(mode="after")
    def _whole_account(self) -> Self:
        if (self.staging_client_id is None) != (self.staging_client_secret is None):
            missing = "STAGING_CLIENT_ID" if self.staging_client_id is None else "STAGING_CLIENT_SECRET"
            raise ValueError(f"{missing} is not set; half an account would be used as none, so set both or neither")
        return self

    @model_validator(mode="after")
    def _whole_repository(self) -> Self:
        if self.image_paths and "docker_files_path" not in self.model_fields_set:
            object.__setattr__(self, "docker_files_path", ".")
        return self

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        repo = self.repo.resolve()
        object.__setattr__(self, "repo", repo)
        object.__setattr__(self, "home", (repo / self.home.expanduser()).resolve())
        return self

    def naming(self, host: str) -> str:
        """The setting that names a registry; empty for one that only a Dockerfile names."""
        mirrors = (mirror.partition("/")[0] for mirror in self.base_mirrors.values())
        named = {
            "staging_registry": (self.staging_registry,),
            "production_registry": (self.production_registry,),
            "base_mirrors": mirrors,
            "frontends": (mirror.partition("/")[0] for mirror in self.frontends.values()),
            "trusted_registries": self.trusted_registries,
        }
        return next((name for name, hosts in named.items() if host.lower() in map(str.lower, hosts)), "")

    def trusts(self, host: str) -> bool:
        """Whether a setting names a registry; one that only a Dockerfile names may lead to public addresses alone."""
        return bool(self.naming(host))

    @property
    def is_automatic(self) -> bool:
        """Whether sensors and schedules that start builds run unless somebody has switched them off in the UI."""
        return self.profile != "local" if self.automation is None else self.automation == "on"

    @property
    def tested_at_once(self) -> int:
        """How many images are tested at the same time, over all builds."""
        return self.parallel_tests or (self.parallel if self.profile == "local" else 8)

    @property
    def steps_at_once(self) -> int:
        """How many steps of a build run at the same time: tests that run elsewhere take no place of what is built."""
        if self.profile == "local":
            return max(self.parallel, self.tested_at_once)
        return self.parallel + 1 + self.tested_at_once  # one Windows image is built beside the others

    @property
    def artifacts_uri(self) -> str:
        """URI of the artifacts store; a folder is absolute, because every process must find the same one."""
        if "://" in self.artifacts:
            return self.artifacts
        return str(
            (self.repo / Path(self.artifacts).expanduser()).resolve() if self.artifacts else self.home / "artifacts"
        )

    @property
    def releases_verified(self) -> bool:
        """Whether only images that verify are released."""
        chosen = self.trust.release_verified
        return self.profile == "azure" if chosen is None else chosen

    @property
    def layer_records(self) -> Path:
        """Folder of what was read of the layers of images; a cache, which may be deleted."""
        return self.home / "layers"

    @property
    def apt_lists(self) -> Path:
        """Folder of what apt has fetched of distributions' updates; a cache, which may be deleted."""
        return self.home / "apt"
