"""Image references: `registry/repository:tag@digest`, normalised as Docker does it.

In place of a tag may stand `{{latest-image-tag}}`, the newest release, or `{{latest-image-tag:EXPRESSION}}`, the newest
of the tags that a regular expression matches.

Source: https://github.com/distribution/reference (grammar and the `docker.io/library` rule); the templates are those of
https://github.com/Azure/azureml-assets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable

DOCKER_HUB = "docker.io"

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:\[[0-9a-fA-F:]+\]|{_LABEL}(?:\.{_LABEL})*)(?::[0-9]+)?")
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_TEMPLATE = re.compile(r"\{\{latest-image-tag(?::(?P<expression>.+))?\}\}")
_MOST_UNBOUNDED = 3
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_MAX_REPOSITORY = 255
_SHOWN_OF_A_DIGEST = len("sha256:") + 12


@dataclass(frozen=True, slots=True)
class Reference:
    """One image reference.

    Attributes:
        registry: Host and port, e.g. `mcr.microsoft.com` or `127.0.0.1:5000`.
        repository: Path below the registry, e.g. `azureml/openmpi4.1-debian12`.
        tag: The tag, or the template of one, or an empty string.
        digest: `sha256:…`, or an empty string.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference as a Dockerfile or the docker command accepts it.

        Raises:
            BadInput: The text is no image reference.
        """
        untagged, template, tag = text.partition(":{{")
        if template:
            return replace(cls.parse(untagged), tag=_checked_template(f"{{{{{tag}", text))
        rest, _, digest = text.partition("@")
        head, slash, last = rest.rpartition("/")
        name, _, tag = last.partition(":")
        path = head + slash + name
        first, slash, below = path.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
            registry, repository = first, below
        else:
            registry, repository = DOCKER_HUB, path
        if registry in (DOCKER_HUB, "index.docker.io"):
            registry = DOCKER_HUB
            repository = repository if "/" in repository else f"library/{repository}"
        well_formed = (
            _DOMAIN.fullmatch(registry)
            and _REPOSITORY.fullmatch(repository)
            and not _IMAGE_ID.fullmatch(path)
            and len(repository) <= _MAX_REPOSITORY
            and (_TAG.fullmatch(tag) if tag else ":" not in last)
            and (_DIGEST.fullmatch(digest) if digest else "@" not in text)
        )
        if not well_formed:
            raise BadInput(
                f"{text!r} is not an image reference",
                hint="Write it as [registry/]repository[:tag][@sha256:…]; repositories are lower case.",
            )
        return cls(registry, repository, tag, digest)

    def with_digest(self, digest: str) -> Reference:
        """The same repository, pinned to a digest."""
        return replace(self, tag="", digest=digest)

    def with_tag(self, tag: str) -> Reference:
        """The same repository under a tag."""
        return replace(self, tag=tag, digest="")

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest, else the tag, else `latest`, for which a template stands, too."""
        return self.digest or ("" if self.is_template else self.tag) or "latest"

    @property
    def is_template(self) -> bool:
        """Whether the tag is the template of one."""
        return self.tag.startswith("{{")

    def newest(self, tags: Iterable[str]) -> str | None:
        """The newest of the tags that the template's expression matches; None when it matches none.

        Numbers in tags are compared as numbers. Without a template, and for one without an expression, it is `version`.
        """
        template = _TEMPLATE.fullmatch(self.tag)
        if template is None or template["expression"] is None:
            return self.version
        matching = [tag for tag in tags if re.fullmatch(template["expression"], tag)]
        return max(matching, key=_by_numbers, default=None)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def _checked_template(tag: str, text: str) -> str:
    template = _TEMPLATE.fullmatch(tag)
    expression = template["expression"] or "" if template else ""
    try:
        re.compile(expression)
    except re.error:
        template = None
    # A stranger may have written it: without groups, and with few of these, no expression takes long.
    if template is None or set("(|)") & set(expression) or len(re.findall(r"[*+]|,\}", expression)) > _MOST_UNBOUNDED:
        raise BadInput(
            f"{text!r} is not an image reference",
            hint="In place of a tag stands {{latest-image-tag}}, or {{latest-image-tag:EXPRESSION}} with a regular "
            f"expression without groups and with at most {_MOST_UNBOUNDED} of * and +.",
        )
    return tag


def _by_numbers(tag: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|\D+", tag))


def is_digest(text: str) -> bool:
    """Whether a text is a digest by an algorithm that registries use."""
    return _DIGEST.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether a text is a tag."""
    return _TAG.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Whether a text is the path of a repository in a registry."""
    return len(text) <= _MAX_REPOSITORY and _REPOSITORY.fullmatch(text) is not None


def short_digest(digest: str) -> str:
    """As much of a digest as distinguishes it from others, for people."""
    return digest[:_SHOWN_OF_A_DIGEST]
