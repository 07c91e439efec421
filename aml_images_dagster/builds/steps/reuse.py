"""Reuse of an image that passed with the same content key and is still in staging.

A registry cannot delete an image on the condition that it has no tag. So a build that reuses an image first tags it and
then checks that it is still reusable, and a cleanup first removes the record of an image and then checks its tags: one
of the two notices the other.

A content key does not cover what `RUN` fetches from the network. So builds of pull requests have separate records
(docs/security.md): no other build uses what they have made or tested, and each reused image is looked up in the
records of the build that made it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from aml_images_dagster.builds.naming import CONTENT_KEY_LABEL
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.platforms import manifests_below

if TYPE_CHECKING:
    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import PassedImage, StagedImage
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.catalog.content_key import ContentKey
    from aml_images_dagster.catalog.image import Image

_CONTENT_KEY = re.compile(r"[0-9a-f]{64}")


def passed_before(
    content_key: str, image: str, artifacts: Artifacts, *, for_pull_request: bool = False
) -> list[PassedImage]:
    """What passed of an image with a content key, best first.

    Args:
        content_key: The key.
        image: `<family>/<name>`.
        artifacts: Remembers it.
        for_pull_request: Whether a build of a pull request asks, which may use what others of them have made.
    """
    found = [artifacts.read_passed(content_key, image)]
    if for_pull_request:
        found.append(artifacts.read_passed(content_key, image, by_pull_requests=True))
    else:
        found = [_without_pull_requests(passed, artifacts) for passed in found if passed]
    return [passed for passed in found if passed]


def passed_with(session: BuildSession, content_key: str, image: str, digest: str) -> list[PassedImage]:
    """What a build may use of an image that passed with a content key and has a digest, best first.

    Nothing if the image was deleted, or replaced by another with the same content key.
    """
    artifacts = session.backends.artifacts
    passed = passed_before(content_key, image, artifacts, for_pull_request=bool(session.pull_request))
    return _with_digest(passed, digest)


def _with_digest(passed: list[PassedImage], digest: str) -> list[PassedImage]:
    return [each for each in passed if each.staged.digest == digest]


def _without_pull_requests(passed: PassedImage, artifacts: Artifacts) -> PassedImage | None:
    """Records made by builds that are not for pull requests: earlier versions had common records for all builds."""
    staged, tested = passed.staged, passed.tested
    if not is_of_no_pull_request(staged.built_in, artifacts) or not _is_made_there(staged, artifacts):
        return None
    scenarios = tuple(record for record in tested.scenarios if is_of_no_pull_request(record.tested_in, artifacts))
    return passed.model_copy(update={"tested": tested.model_copy(update={"scenarios": scenarios})})


def _is_made_there(staged: StagedImage, artifacts: Artifacts) -> bool:
    """Whether the build that is said to have made an image says so itself."""
    said = (staged.built_in, staged.image, staged.digest)
    if said not in artifacts.known_made:
        made = None
        with suppress(BadInput):
            made = artifacts.build(staged.built_in).read_staged(staged.image)
        if made is None or made.digest != staged.digest:
            return False
        artifacts.known_made[said] = made.content_key
    return artifacts.known_made[said] == staged.content_key


def is_of_no_pull_request(build: str, artifacts: Artifacts) -> bool:
    """Whether a build is known not to be of a pull request."""
    if build in artifacts.of_no_pull_request:
        return True
    with suppress(BadInput):
        record = artifacts.build(build).read_build()
        if record is not None and not record.pull_request:
            artifacts.of_no_pull_request.add(build)
            return True
    return False


def reusable(key: ContentKey, image: Image, backends: Backends, *, for_pull_request: bool = False) -> list[PassedImage]:
    """The records of the image that passed with this key and is still in staging; none when it must be built."""
    passed = passed_before(key.digest, image.id, backends.artifacts, for_pull_request=for_pull_request)
    for digest in dict.fromkeys(each.staged.digest for each in passed):
        if backends.staging.digest(Reference(backends.staging.host, image.family, digest=digest)):
            return _with_digest(passed, digest)
    return []


def is_reusable(reference: Reference, image: Image, backends: Backends, *, for_pull_request: bool = False) -> bool:
    """Whether staging still holds an image, by digest, that has passed and whose record still exists."""
    key = _content_key_of(reference, backends)
    passed = passed_before(key, image.id, backends.artifacts, for_pull_request=for_pull_request) if key else []
    return bool(_with_digest(passed, reference.digest))


def forget(image: Reference, backends: Backends) -> None:
    """Prevent any further reuse of an image.

    Args:
        image: By digest, in staging. Its label names its content key, independent of the build's records.
        backends: Staging and the artifacts store.
    """
    key = _content_key_of(image, backends)
    if key:
        backends.artifacts.forget_passed(key, image.digest)


def _content_key_of(image: Reference, backends: Backends) -> str:
    """The content key that the label of an image in staging names; empty if it is gone, or is not the factory's."""
    try:
        parts = manifests_below(backends.staging, image)  # all images of an index have its labels
        config = backends.staging.config(image.with_digest(parts[0]) if parts else image)
    except (BadInput, ValueError):
        return ""
    labels = (config.get("config") or {}).get("Labels") or {}
    key = labels.get(CONTENT_KEY_LABEL)
    return key if isinstance(key, str) and _CONTENT_KEY.fullmatch(key) else ""
