"""What a build of a pull request would change for users of an image: `difference.json`, for reviewers.

It stops nothing: what may break users is refused when it is released.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from aml_images_dagster.builds.artifacts import read_whole, write_atomically
from aml_images_dagster.builds.steps.parents import in_production
from aml_images_dagster.builds.steps.staging import staged_by_digest
from aml_images_dagster.builds.versions.image_difference import ImageComparison, ImageDifference
from aml_images_dagster.builds.versions.image_versions import ImageVersion, ImageVersions
from aml_images_dagster.errors import BadInput, Unreachable

if TYPE_CHECKING:
    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.records import StagedImage
    from aml_images_dagster.builds.session import BuildSession

_FILE = "difference.json"


@dataclass(frozen=True, slots=True)
class ProductionDifference:
    """A staged image against what production serves as `:latest`.

    Attributes:
        digest: The staged image.
        difference: What changed; None if that is not known.
        unknown: Why not, in a sentence; else empty.
        is_first: Whether production serves nothing of the image yet.
    """

    digest: str
    difference: ImageDifference | None
    unknown: str = ""
    is_first: bool = False

    @property
    def may_break(self) -> tuple[str, ...]:
        """What a release would refuse until a person accepts it."""
        return tuple(map(str, self.difference.major)) if self.difference else ()


def against_production(session: BuildSession, staged: StagedImage) -> ProductionDifference:
    """Compare a staged image with what production serves, and write `difference.json`. Whatever fails is part of it."""
    found = _compared(session, staged)
    path = session.folder.image(staged.image) / _FILE
    write_atomically(path, _JSON.dump_json(found, indent=2), durable=False)
    return found


def read_production_difference(folder: BuildFolder, image: str, digest: str) -> ProductionDifference | None:
    """`difference.json` of an image; None if there is none of this digest, or another version has written it."""
    try:
        found = _JSON.validate_json(read_whole(folder.image(image) / _FILE))
    except (FileNotFoundError, ValidationError):
        return None
    return found if found.digest == digest else None


def _compared(session: BuildSession, staged: StagedImage) -> ProductionDifference:
    backends, settings, image = session.backends, session.settings, session.image(staged.image)
    try:
        versions = ImageVersions(image.id, in_production(image, backends, settings).repository, backends)
        older = versions.served_now()
        if older is None:
            return ProductionDifference(staged.digest, None, "not released yet", is_first=True)
        reference = staged_by_digest(session, staged)
        newer = ImageVersion(session.number, backends.staging, reference, session.number, session.source.commit, staged)
        difference = ImageComparison(settings).compare(image.id, older, newer, scanned=True)
    except (BadInput, Unreachable) as fault:
        return ProductionDifference(staged.digest, None, fault.what.partition("\n")[0])
    return ProductionDifference(staged.digest, difference)


_JSON = TypeAdapter(ProductionDifference)
