"""What a release changes for users, and the gate: what may break them is released only when a person accepts it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aml_images_dagster.builds.ledger import LATEST
from aml_images_dagster.builds.versions.image_difference import ImageComparison
from aml_images_dagster.builds.versions.image_versions import ImageVersion, ImageVersions
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.ledger import TagChange
    from aml_images_dagster.builds.versions.image_difference import ImageDifference
    from aml_images_dagster.release.release_json import ReleaseImage, ReleaseJson
    from aml_images_dagster.release.release_plan import ReleasePlan
    from aml_images_dagster.settings import Settings


class ReleaseComparison:
    """Compares the images of releases with what production serves; each pair of digests once.

    Args:
        backends: Registries and artifacts.
        settings: The repository, and where what was read of layers is kept.
    """

    def __init__(self, backends: Backends, settings: Settings) -> None:
        self._backends = backends
        self._comparison = ImageComparison(settings)
        self._known: dict[tuple[str, str | None, str | None, bool], ImageDifference | str] = {}

    def add(self, release: ReleaseJson, plan: ReleasePlan, *, scanned: bool = False) -> ReleasePlan:
        """The plan with what it changes for users. Nothing is read for a `:latest` that stays, or is the first.

        Args:
            release: What the build made.
            plan: What a release of it would change.
            scanned: Also ask for vulnerabilities, which a release does not wait for.

        Raises:
            Unreachable: A registry does not answer.
        """
        images = {f"{image.family}/{image.name}": image for image in release.images}
        found = {
            change.image: self.compared(change, images[change.image], release, scanned=scanned)
            for change in plan.changes
            if change.tag == LATEST and change.before not in (None, change.after)
        }
        return replace(
            plan,
            differences={image: each for image, each in found.items() if not isinstance(each, str)},
            not_compared={image: each for image, each in found.items() if isinstance(each, str)},
        )

    def compared(
        self, change: TagChange, image: ReleaseImage, release: ReleaseJson, *, scanned: bool
    ) -> ImageDifference | str:
        """What changes when a `:latest` moves, or why that is not known.

        Args:
            change: The move.
            image: The image that it moves to.
            release: The build that made it.
            scanned: Also ask for vulnerabilities.

        Raises:
            Unreachable: A registry does not answer.
        """
        key = (change.image, change.before, change.after, scanned)
        if key not in self._known:
            try:
                self._known[key] = self._compare(change, image, release, scanned=scanned)
            except BadInput as fault:
                self._known[key] = str(fault)
        return self._known[key]

    def _compare(
        self, change: TagChange, image: ReleaseImage, release: ReleaseJson, *, scanned: bool
    ) -> ImageDifference:
        versions = ImageVersions(change.image, change.repository, self._backends)
        reference = Reference.parse(image.staging.reference).with_digest(image.staging.digest)
        staged = self._backends.artifacts.build(release.build).read_staged(change.image)
        newer = ImageVersion(release.build, self._backends.staging, reference, release.build, release.commit, staged)
        return self._comparison.compare(change.image, versions.served(change.before or ""), newer, scanned=scanned)


def accepted_changes(
    plan: ReleasePlan, release: ReleaseJson, settings: Settings, accept_major: bool
) -> tuple[str, ...]:
    """The major changes of a release that a person accepts, for its record.

    Args:
        plan: What it changes.
        release: The build.
        settings: Whether major changes block.
        accept_major: Whether a person accepts them.

    Raises:
        BadInput: Nobody has accepted them, neither now nor when an interrupted release of the same began.
    """
    if accept_major:
        return plan.major
    accepted = plan.resumes.accepted_major if plan.resumes else ()
    refused = [each for each in plan.major if each not in accepted]
    if refused and settings.release.major_changes == "block":
        image = refused[0].partition(":")[0]
        raise BadInput(
            "\n  ".join(("this may break users:", *refused)),
            where=f"build {release.build}",
            hint=f"`aml-images diff {image} latest {release.build}` shows everything that changed. If it is meant, "
            "release with --accept-major (in the UI: accept_major), which is recorded.",
        )
    return ()
