"""The content key: one hash of all that decides an image's bytes, and what is behind it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from aml_images_dagster.text import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aml_images_dagster.catalog.context import BuildContext

_ADDED_LATER = ("secrets", "target", "rewrite_timestamp")
_SHOWN_FILES = 5
_FOLDER_MODE = "40000"
_SHOWN_DIGEST = len("sha256:") + 12


class ContentKey(BaseModel):
    """All inputs of an image's build. Two images with the same `digest` need not both be built.

    Attributes:
        version: Version of this list. A new one makes every image be built again.
        dockerfile: sha256 of the Dockerfile up to its target, the public and the private part combined, before its
            bases are pinned.
        files: Path in the context → mode as git writes it and sha256, e.g. `100644 9f86d0…`; of a folder without files,
            whose path ends with `/`, only the mode.
        build_args: Values for ARG.
        platform: e.g. `linux/amd64`.
        bases: Every image that the Dockerfile names, as written there → digest that it points to.
        secrets: Ids of the secrets that RUN may read, and `ssh`; never their values.
        target: The stage that makes the image; empty for the last one.
        rewrite_timestamp: Whether no file is later than the commit.
    """

    model_config = ConfigDict(frozen=True)

    version: int = 1
    dockerfile: str
    files: dict[str, str]
    build_args: dict[str, str]
    platform: str
    bases: dict[str, str]
    secrets: tuple[str, ...] = ()
    target: str = ""
    rewrite_timestamp: bool = False

    @classmethod
    def of(
        cls,
        *,
        dockerfile: str,
        context: BuildContext,
        build_args: Mapping[str, str],
        platform: str,
        bases: Mapping[str, str],
        secrets: Sequence[str] = (),
        target: str = "",
        rewrite_timestamp: bool = False,
    ) -> ContentKey:
        """The key of an image.

        Args:
            dockerfile: The combined text.
            context: The files that it can copy.
            build_args: Values for ARG.
            platform: What the image is built for.
            bases: Reference as in the Dockerfile → digest.
            secrets: Ids of the secrets that RUN may read.
            target: The stage that makes the image.
            rewrite_timestamp: Whether no file is later than the commit.
        """
        return cls(
            dockerfile=hashlib.sha256(dockerfile.encode("utf-8", "surrogateescape")).hexdigest(),
            files={file.path: f"{file.mode:o} {file.sha256}" for file in context.files}
            | {f"{folder}/": _FOLDER_MODE for folder in context.folders},
            build_args=dict(build_args),
            platform=platform,
            bases=dict(bases),
            secrets=tuple(sorted(secrets)),
            target=target,
            rewrite_timestamp=rewrite_timestamp,
        )

    @property
    def digest(self) -> str:
        """The key itself: sha256, in hexadecimal, of the canonical JSON of all parts."""
        # Images without them keep the key that they had before there were any.
        parts = self.model_dump(exclude={name for name in _ADDED_LATER if not getattr(self, name)})
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def explain(old: ContentKey, new: ContentKey, dockerfile: str = "") -> list[str]:
    """What differs between two keys, as sentences for a person; empty when they are the same.

    Args:
        old: The key before.
        new: The key now.
        dockerfile: The Dockerfile's path in the context, which may have it as a file, too: its change is told once.
    """
    return list(_differences(old, new, dockerfile))


def _differences(old: ContentKey, new: ContentKey, dockerfile: str) -> Iterator[str]:
    told = ""
    if old.version != new.version:
        yield "content keys are computed in another way since"
    if old.target != new.target:
        yield f"target {old.target or '(the last stage)'} → {new.target or '(the last stage)'}"
    elif old.dockerfile != new.dockerfile:
        yield "Dockerfile changed"
        told = f"{dockerfile} changed"
    files = [sentence for sentence in _compared(old.files, new.files) if sentence != told]
    if files:
        yield f"context: {first_of(files, _SHOWN_FILES)}"
    for sentence in _compared(old.build_args, new.build_args):
        yield f"build argument {sentence}"
    for secret in sorted({*old.secrets} ^ {*new.secrets}):
        yield f"secret {secret} {'added' if secret in new.secrets else 'removed'}"
    if old.rewrite_timestamp != new.rewrite_timestamp:
        yield f"rewrite_timestamp {'set' if new.rewrite_timestamp else 'removed'}"
    if old.platform != new.platform:
        yield f"platform {old.platform} → {new.platform}"
    for base in sorted(old.bases.keys() & new.bases.keys()):
        if old.bases[base] != new.bases[base]:
            yield f"base {base} moved {_short(old.bases[base])} → {_short(new.bases[base])}"
    for base in sorted(new.bases.keys() - old.bases.keys()):
        yield f"base {base} is new"
    for base in sorted(old.bases.keys() - new.bases.keys()):
        yield f"base {base} is gone"


def _compared(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"{name} added"
        elif name not in new:
            yield f"{name} removed"
        elif old[name] != new[name]:
            yield f"{name} changed"


def _short(digest: str) -> str:
    return f"{digest[:_SHOWN_DIGEST]}…" if len(digest) > _SHOWN_DIGEST else digest
