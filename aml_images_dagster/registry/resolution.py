"""Finding the digest that the name of a base image points to right now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, FactoryError, Unreachable
from aml_images_dagster.http_connection import time_limit
from aml_images_dagster.http_session import Untrusted
from aml_images_dagster.registry.interface import NoAnswer
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.platforms import images_of, manifests_below

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.engine.interface import Engine
    from aml_images_dagster.registry.interface import Registry


class Mirrors:
    """Mirrors by prefix; the longest prefix that matches wins.

    The rule is that of `prefix` and `mirror` in containers-registries.conf(5):
    https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md.

    Args:
        by_prefix: A registry host, or host and path, to the host and path that replace it,
            e.g. `docker.io` to `127.0.0.1:5000/mirror/docker.io`.

    Raises:
        BadInput: A prefix or a mirror is not the beginning of an image reference.
    """

    def __init__(self, by_prefix: Mapping[str, str]) -> None:
        self._by_prefix = {_checked(prefix): _checked(mirror) for prefix, mirror in by_prefix.items()}

    def of(self, reference: Reference) -> Reference | None:
        """The same image in its mirror; None when no prefix matches."""
        matching = [prefix for prefix in self._by_prefix if f"{reference.name}/".startswith(f"{prefix}/")]
        if not matching:
            return None
        prefix = max(matching, key=len)
        below = reference.name.removeprefix(prefix)
        name = Reference.parse(f"{self._by_prefix[prefix]}{below}")
        return Reference(name.registry, name.repository, reference.tag, reference.digest)


def _checked(location: str) -> str:
    """A host, or host and path, without a slash at its end."""
    trimmed = location.strip().rstrip("/")
    try:
        parsed = Reference.parse(f"{trimmed}/x/x")
    except BadInput:
        parsed = None
    if parsed is None or parsed.name != f"{trimmed}/x/x":
        raise BadInput(
            f"{location!r} is not a registry or a path in one",
            where="base_mirrors",
            hint="Write prefix=mirror, e.g. docker.io=mirror.example:5000/docker.io.",
        )
    return trimmed


OpenRegistry = Callable[[str], "Registry"]

_SECONDS = 120
"""Longest time for all that one question to one registry takes: signing in, redirects, asking again."""
_AT_ONCE = 16
"""Questions asked at once when many bases are observed."""


@dataclass(frozen=True, slots=True)
class ResolvedBase:
    """A base image and what it points to.

    Attributes:
        reference: As it was asked for.
        digest: What it points to.
        pull: What FROM is pinned to: the place that answered, by digest.
        from_engine: No registry answered; it is what the engine happens to hold and may be out of date.
    """

    reference: str
    digest: str
    pull: str
    from_engine: bool = False


class BaseResolver:
    """Asks the mirror, then the registry itself, then the engine. Answers are kept as long as the object lives.

    Args:
        mirrors: See `Mirrors`.
        engine: Asked last; None leaves it out.
        open_registry: Gives the registry for a host, with the login that it needs.

    Raises:
        BadInput: See `Mirrors`.
    """

    def __init__(
        self,
        mirrors: Mapping[str, str],
        engine: Engine | None = None,
        open_registry: OpenRegistry = OciRegistry,
    ) -> None:
        self._mirrors = Mirrors(mirrors)
        self._engine = engine
        self._open_registry = open_registry
        self._registries: dict[str, Registry] = {}
        self._silent: set[str] = set()
        self._resolved: dict[str, ResolvedBase] = {}
        self._platforms: dict[str, tuple[str, ...]] = {}
        self._asking: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def resolve(self, reference: str) -> ResolvedBase:
        """The digest of a base, and the reference to build from.

        Raises:
            BadInput: The text is not a reference, or the image cannot be found.
        """
        with self._lock:
            resolved, silent = self._resolved, self._silent
            asking = self._asking.setdefault(reference, threading.Lock())
        # One at a time: images that share a base then ask for it once. A slow registry holds up no other base.
        with asking:
            if reference not in resolved:
                resolved[reference] = self._resolve(reference, silent, self._engine)
            return resolved[reference]

    def platforms(self, image: str) -> tuple[str, ...]:
        """What an image is for, by digest, e.g. `linux/arm64`; nothing where only the engine has it.

        Args:
            image: As `ResolvedBase.pull` names it.

        Raises:
            Unreachable: Its registry refuses.
        """
        if image not in self._platforms:
            reference = Reference.parse(image)
            with time_limit(_SECONDS), suppress(BadInput, NoAnswer):
                registry = self._registries.setdefault(reference.registry, self._open_registry(reference.registry))
                self._platforms[image] = tuple(images_of(registry, reference))
        return self._platforms.get(image, ())

    def triggers(self, image: str) -> tuple[str, ...]:
        """The instructions that ONBUILD of an image adds to a build FROM it.

        All images of an index count, whatever platform it says that they are for: which one a builder takes is its own
        choice.

        Args:
            image: As `ResolvedBase.pull` names it.

        Raises:
            BadInput: Its registry does not have it, or not all of it.
            Unreachable: Its registry does not answer, or refuses.
        """
        reference = Reference.parse(image)
        with time_limit(_SECONDS):
            registry = self._registries.setdefault(reference.registry, self._open_registry(reference.registry))
            below = [reference.with_digest(digest) for digest in manifests_below(registry, reference)]
            images = [each for each in below or [reference] if not manifests_below(registry, each)]
            configs = [registry.config(each).get("config") or {} for each in images]
        return tuple(dict.fromkeys(str(trigger) for config in configs for trigger in config.get("OnBuild") or ()))

    def observe(self, references: Iterable[str]) -> dict[str, ResolvedBase | BadInput]:
        """What registries serve now, whatever was answered before; the engine is not asked.

        Returns:
            The answer for each reference, or why there is none.
        """
        silent: set[str] = set()

        def ask(reference: str) -> ResolvedBase | BadInput:
            try:
                return self._resolve(reference, silent, None)
            except BadInput as error:
                return error

        wanted = list(dict.fromkeys(references))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(wanted, pool.map(ask, wanted), strict=True))

    def forget(self) -> None:
        """Forget all answers, so that a process that lives long asks again."""
        with self._lock:
            # New ones: a question that is under way answers for the time before.
            self._silent, self._resolved, self._asking = set(), {}, {}

    def _resolve(self, text: str, silent: set[str], engine: Engine | None) -> ResolvedBase:
        reference = Reference.parse(text)
        mirrored = self._mirrors.of(reference)
        places = [place for place in (mirrored, reference) if place]
        answers: list[str] = []
        hints: list[str] = []
        for place in places:
            digest = self._ask_registry(place, silent, answers, hints)
            if digest:
                return ResolvedBase(text, digest, str(place.with_digest(digest)))
        for place in places if engine else ():
            digest = self._ask_engine(place, answers)
            if digest:
                return ResolvedBase(text, digest, str(place.with_digest(digest)), from_engine=True)
        raise BadInput(
            f"the base can't be resolved: {'; '.join(dict.fromkeys(answers))}",
            where=text,
            hint=" ".join(hints)
            or "Check its name and that this machine reaches its registry, name a mirror (base_mirrors), or pull it.",
        )

    def _ask_registry(self, place: Reference, silent: set[str], answers: list[str], hints: list[str]) -> str | None:
        host = place.registry
        if host in silent:
            answers.append(f"{host} does not answer")
            return None
        try:
            registry = self._registries.setdefault(host, self._open_registry(host))
            with time_limit(_SECONDS):
                if place.is_template:
                    tag = place.newest(registry.tags(place.repository))
                    digest = registry.digest(place.with_tag(tag)) if tag else None
                else:
                    digest = registry.digest(place)
        except Unreachable as error:
            answers.append(_said(error))
            if isinstance(error, Untrusted):
                hints.append(error.hint)
            # Every question to a registry that is not there costs a time-out; a refusal says nothing of other images.
            if isinstance(error, NoAnswer):
                silent.add(host)
            return None
        if digest is None:
            answers.append(f"{host} has no {place.repository}:{place.tag or place.version}")
        return digest

    def _ask_engine(self, place: Reference, answers: list[str]) -> str | None:
        if self._engine is None:
            return None
        if place.is_template:
            answers.append("the engine does not know which tag is the newest")
            return None
        try:
            digest = self._engine.local_digest(str(place))
        except FactoryError as error:
            answers.append(_said(error))
            return None
        if digest is None:
            answers.append("the engine has not pulled it")
        return digest


def _said(error: FactoryError) -> str:
    return f"{error.where}: {error.what}" if error.where else error.what
