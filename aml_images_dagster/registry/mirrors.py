"""Mirrors: prefixes of references and the locations that replace them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping


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
