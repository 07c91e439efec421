"""The backends of a build, one for each interface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.checks import Check
    from aml_images_dagster.engine.interface import Builder, LocalBuilder, LoginFor
    from aml_images_dagster.registry.copy import Importer
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.registry.resolution import ResolvedBase
    from aml_images_dagster.testing.interface import TestRunner


class Resolver(Protocol):
    """Finds the digest behind the name of an external base."""

    def resolve(self, reference: str) -> ResolvedBase:
        """The digest, and the reference to build from.

        Raises:
            BadInput: The base cannot be found.
        """

    def platforms(self, image: str) -> Sequence[str]:
        """What an image is for, by digest, e.g. `linux/arm64`; nothing where only the engine has it.

        Raises:
            Unreachable: Its registry refuses.
        """

    def triggers(self, image: str) -> Sequence[str]:
        """The instructions that ONBUILD of an image, by digest, adds to a build FROM it, on any platform.

        Raises:
            BadInput: Its registry does not have it, or not all of it.
            Unreachable: Its registry does not answer, or refuses.
        """

    def observe(self, references: Iterable[str]) -> Mapping[str, ResolvedBase | BadInput]:
        """What registries serve now, whatever was answered before; or why there is no answer."""

    def forget(self) -> None:
        """Forget all answers, so that a process that lives long asks again."""


@dataclass(frozen=True)
class Backends:
    """One backend for each interface.

    Attributes:
        builder: Builds and pushes Linux images.
        windows_builder: Builds and pushes Windows images; None when there is nothing that could.
        engine: Builds Linux images that are only tried and stay here.
        windows_engine: The same for Windows images; None when there is none.
        staging: Where built images are pushed.
        login_for: Logins for pushing and pulling.
        production: Where released images are.
        importer: Brings staged images into production.
        runner: Runs scenarios as training jobs.
        resolver: Finds external bases.
        artifacts: The artifacts store.
        frontends: Mirrors of the frontends that `# syntax=` may name.
        checks: Whether all of these can be used, in the order in which a person would fix them.
        import_sdks: Imports what several threads must not be the first to import at the same time.
    """

    builder: Builder
    windows_builder: Builder | None
    engine: LocalBuilder
    windows_engine: LocalBuilder | None
    staging: Registry
    login_for: LoginFor
    production: Registry
    importer: Importer
    runner: TestRunner
    resolver: Resolver
    artifacts: Artifacts
    frontends: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    import_sdks: Callable[[], None] = lambda: None

    def builder_for(self, os: str) -> Builder:
        """What builds images of an operating system.

        Raises:
            BadInput: There is nothing.
        """
        if os != "windows":
            return self.builder
        if self.windows_builder is None:
            raise BadInput(
                "nothing is configured that builds Windows images",
                where="windows_docker_host",
                hint="Set AML_IMAGES_WINDOWS_DOCKER_HOST to the URL of a Windows engine, or, in the profile azure, "
                "AML_IMAGES_AZURE__WINDOWS_BUILDER to acr-tasks.",
            )
        return self.windows_builder

    def engine_for(self, os: str) -> LocalBuilder:
        """The engine on which images of an operating system are tried.

        Raises:
            BadInput: There is none.
        """
        if os != "windows":
            return self.engine
        if self.windows_engine is None:
            raise BadInput(
                "no Windows engine is configured",
                where="windows_docker_host",
                hint="Trying a Windows image needs a Windows engine: set AML_IMAGES_WINDOWS_DOCKER_HOST to its URL.",
            )
        return self.windows_engine
