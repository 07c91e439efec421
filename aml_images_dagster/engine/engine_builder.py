"""A `Builder` on a container engine: images are pushed from the engine's own store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from aml_images_dagster.catalog.builder_features import CLASSIC
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.faults import PUSHED_AGAIN_AFTER_SECONDS, once_more_when_back, repeated_after
from aml_images_dagster.engine.interface import Builder, PushedImage, TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.catalog.builder_features import BuilderFeatures
    from aml_images_dagster.engine.interface import BuildRequest, Engine, EngineInfo, LoginFor, LogLine


class EngineBuilder(Builder):
    """A `Builder` on an engine.

    Args:
        engine: Builds and pushes.
        login_for: Logins for pushing, asked right before.
        wait_seconds: How long a build waits for an engine that was lost, before it fails.
    """

    def __init__(self, engine: Engine, login_for: LoginFor, *, wait_seconds: float) -> None:
        self._engine = engine
        self._login_for = login_for
        self._wait_seconds = wait_seconds

    @override
    def info(self) -> EngineInfo:
        return self._engine.info()

    @override
    def features(self) -> BuilderFeatures:
        return CLASSIC

    def build_and_push(
        self,
        request: BuildRequest,
        log: LogLine,
        *,
        still_wanted: Callable[[], None],
        started: Callable[[str], None],
        pushes: Callable[[str], None] = lambda _: None,
    ) -> PushedImage:
        """See `Builder.build_and_push`. Nothing continues without this process, so `started` is not called."""
        self._build(request, log)
        try:
            still_wanted()
            files = self._engine.paths_exist(request.tag, request.look_for)
            digest = self._push(request.tag, log)
        finally:
            self._engine.keep_as_cache(request.tag, request.cache_name)
        return PushedImage(digest, files)

    @override
    def abandon(self, tag: str, work: str | None) -> None:
        self._engine.forget(tag)

    @override
    def sweep(self) -> int:
        return self._engine.sweep_build_containers()

    def _push(self, tag: str, log: LogLine) -> str:
        """Push; repeat it if the registry has too many requests, because engines do not."""
        registry = Reference.parse(tag).registry
        return repeated_after(
            PUSHED_AGAIN_AFTER_SECONDS,
            lambda: self._engine.push(tag, log, self._login_for(registry)),
            log,
            refused=TooManyRequests,
            doing="pushing",
        )

    def _build(self, request: BuildRequest, log: LogLine) -> None:
        """Build; repeat it once if the engine was lost and is back in time."""
        once_more_when_back(
            lambda: self._engine.build(request, log),
            log,
            ask=self._engine.info,
            tidy=lambda: self._engine.forget(request.tag),  # and with it the containers that it could not remove
            wait_seconds=self._wait_seconds,
        )
