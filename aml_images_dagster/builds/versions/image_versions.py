"""The versions of an image that can be compared: its releases, its builds, and what a registry has by digest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.catalog.reference import Reference, is_digest, short_digest
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.builds.records import BuildRecord, StagedImage
    from aml_images_dagster.registry.interface import Registry

_DIGEST_PREFIX = len("sha256:") + 6
"""Characters of a digest that are enough to look for it."""


@dataclass(frozen=True)
class ImageVersion:
    """One version of an image.

    Attributes:
        name: What people call it: its release tag, the number of its build, else its digest.
        registry: A registry that has it.
        reference: Where it is there, by digest.
        build: The build that made it; empty when it is not known.
        commit: What that build was built from, as in its record; empty when it is not known.
        staged: The record of the image in that build; None when it is not known.
        is_withdrawn: Whether it was withdrawn, under any release tag, as far as `ImageVersions` has looked.
    """

    name: str
    registry: Registry
    reference: Reference
    build: str = ""
    commit: str = ""
    staged: StagedImage | None = None
    is_withdrawn: bool = False

    @property
    def digest(self) -> str:
        """Digest of the image, or of the index of several."""
        return self.reference.digest


def builds_of(image: str, backends: Backends) -> Iterator[tuple[BuildFolder, BuildRecord, StagedImage]]:
    """The builds that have staged an image, newest first, whether staging still has it or not."""
    for folder, record in backends.artifacts.builds(lambda _: None):
        staged = folder.read_staged(image) if image in record.images else None
        if staged is not None:
            yield folder, record, staged


def newest_staged(image: str, backends: Backends) -> ImageVersion | None:
    """The newest image that staging has, none of a pull request, which nobody signs; None when it has none.

    Args:
        image: `<family>/<name>`.
        backends: Staging, and the artifacts.
    """
    for _, record, staged in builds_of(image, backends):
        found = None if record.pull_request else _in_staging(record, staged, backends)
        if found is not None:
            return found
    return None


class ImageVersions:
    """The versions of one image.

    Args:
        image: `<family>/<name>`.
        repository: Its repository in production, where the ledger does not know another.
        backends: Registries and artifacts.
    """

    def __init__(self, image: str, repository: str, backends: Backends) -> None:
        self._image = image
        self._backends = backends
        self._history = History(Ledger(backends.artifacts).records())
        self._withdrawn = self._history.withdrawn_of(image)
        self._releases = self._history.versions(image) if self._is_released() else []
        self._repository = self._releases[0].repository if self._releases else repository

    def find(self, text: str) -> ImageVersion:
        """The version that a person names: a release tag, the start of a build's number, a digest, or `latest`.

        Raises:
            BadInput: There is none, there are several, or no registry has it any more.
            Unreachable: A registry does not answer.
        """
        return self._marked(self._find(text))

    def _find(self, text: str) -> ImageVersion:
        if text == LATEST:
            return self.latest()
        for release in self._releases:
            if release.tag == text:
                return self._existing(self._released(release.digest, release.tag, release.record))
        if len(text) >= _DIGEST_PREFIX and text.startswith("sha256:"):
            return self._by_digest(text)
        builds = [each for each in builds_of(self._image, self._backends) if text and each[1].build.startswith(text)]
        if len(builds) > 1:
            raise BadInput(
                f"{len(builds)} builds of {self._image} begin with {text!r}",
                where=self._image,
                hint=f"Give more of the number: {', '.join(record.build for _, record, _ in builds[:5])}.",
            )
        for _, record, staged in builds:
            return _in_staging(record, staged, self._backends) or self._existing(self._by_record(record, staged))
        raise BadInput(
            f"{self._image} has no release and no build {text!r}",
            hint=f"`aml-images releases {self._image}` and `aml-images builds --image {self._image}` show what there "
            "is; a digest and `latest` are fine, too.",
        )

    def latest(self) -> ImageVersion:
        """What production serves as `:latest` now.

        Raises:
            BadInput: Nothing.
            Unreachable: Production does not answer.
        """
        found = self.served_now()
        if found is None:
            raise BadInput(
                "production serves no :latest of it",
                where=f"{self._backends.production.host}/{self._repository}",
                hint="Name two builds or releases to compare.",
            )
        return self._marked(found)

    def served_now(self) -> ImageVersion | None:
        """What production serves as `:latest` now; None for nothing.

        Raises:
            Unreachable: Production does not answer.
        """
        production = self._backends.production
        served = production.digest(Reference(production.host, self._repository, LATEST))
        return self.served(served) if served else None

    def served(self, digest: str) -> ImageVersion:
        """What production serves as `:latest`, by the digest that it serves."""
        record = self._history.latest(self._repository, digest).record
        change = record.change(self._image, LATEST) if record else None
        known = record if change and change.after == digest else None
        return self._released(digest, known.release_tag if known else short_digest(digest), known)

    def newest(self) -> ImageVersion:
        """The newest image in staging that could be released.

        Raises:
            BadInput: Staging has none.
            Unreachable: Staging does not answer.
        """
        found = newest_staged(self._image, self._backends)
        if found is None:
            raise BadInput(
                "staging has no image of it",
                where=self._image,
                hint=f"`aml-images build {self._image}` builds it; or name what to compare with.",
            )
        return self._marked(found)

    def _marked(self, version: ImageVersion) -> ImageVersion:
        return replace(version, is_withdrawn=version.digest in self._withdrawn)

    def _is_released(self) -> bool:
        return any(
            record.action == "release" and change.image == self._image and change.tag != LATEST
            for record in self._history.changes
            for change in record.changes
        )

    def _by_digest(self, text: str) -> ImageVersion:
        """Of a digest a part is enough, where a record has it."""
        for release in self._releases:
            if release.digest.startswith(text):
                return self._existing(self._released(release.digest, release.tag, release.record))
        for _, record, staged in builds_of(self._image, self._backends):
            if staged.digest.startswith(text):
                return _in_staging(record, staged, self._backends) or self._existing(self._by_record(record, staged))
        if not is_digest(text):
            raise BadInput(
                f"no build and no release of {self._image} begins with {text}",
                where=self._image,
                hint="Give the whole digest.",
            )
        return self._existing(self._released(text, short_digest(text), None))

    def _released(self, digest: str, name: str, record: ReleaseRecord | None) -> ImageVersion:
        production = self._backends.production
        reference = Reference(production.host, self._repository, digest=digest)
        if record is None:
            return ImageVersion(name, production, reference)
        staged = self._backends.artifacts.build(record.build).read_staged(self._image)
        return ImageVersion(name, production, reference, record.build, record.commit, staged)

    def _by_record(self, record: BuildRecord, staged: StagedImage) -> ImageVersion:
        """A build whose image staging has no longer; it may have been released."""
        reference = Reference(self._backends.production.host, self._repository, digest=staged.digest)
        return ImageVersion(record.build, self._backends.production, reference, record.build, record.commit, staged)

    def _existing(self, version: ImageVersion) -> ImageVersion:
        """The version, where production or, for a digest alone, staging has it."""
        staging = self._backends.staging
        elsewhere = Reference(staging.host, self._image.partition("/")[0], digest=version.digest)
        for registry, reference in ((version.registry, version.reference), (staging, elsewhere)):
            if registry.digest(reference) is not None:
                return ImageVersion(version.name, registry, reference, version.build, version.commit, version.staged)
        raise BadInput(
            f"neither production nor staging has {version.name} any more",
            where=str(version.reference),
            hint="It was withdrawn, or its build was cleaned up: name another version.",
        )


def _in_staging(record: BuildRecord, staged: StagedImage, backends: Backends) -> ImageVersion | None:
    reference = Reference.parse(staged.reference).with_digest(staged.digest)
    if backends.staging.digest(reference) is None:  # a build that was cleaned up has none any more
        return None
    return ImageVersion(record.build, backends.staging, reference, record.build, record.commit, staged)
