"""Writes the release notes of a release that is complete, from the digests that production serves.

A release does not fail for its notes: repeating it writes what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.builds.versions.image_difference import ImageDifference
from aml_images_dagster.builds.versions.release_notes import ReleaseNotes, read_notes, serves, write_notes, write_page
from aml_images_dagster.catalog.reference import Reference, is_tag
from aml_images_dagster.errors import BadInput
from aml_images_dagster.trust.layer_records import LayerRecords
from aml_images_dagster.vulnerabilities.scanning import scan_image
from aml_images_dagster.vulnerabilities.vulnerability import changes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from upath import UPath

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.ledger import ReleaseRecord, TagChange
    from aml_images_dagster.release.major_changes import ReleaseComparison
    from aml_images_dagster.release.release_json import ReleaseImage, ReleaseJson
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.vulnerabilities.vulnerability import VulnerabilityChanges


class NotesWriter:
    """Writes the notes of releases.

    Args:
        backends: Registries and artifacts.
        settings: Who is asked for vulnerabilities, and where what was read of layers is kept.
        comparison: Compares images of releases.
    """

    def __init__(self, backends: Backends, settings: Settings, comparison: ReleaseComparison) -> None:
        self._backends = backends
        self._settings = settings
        self._comparison = comparison

    def write(self, release: ReleaseJson, record: ReleaseRecord) -> UPath:
        """Write the notes of a release, where they are missing.

        Args:
            release: What the build made.
            record: The record of its completion.

        Returns:
            The page for people.

        Raises:
            BadInput: Something cannot be read.
            Unreachable: A registry does not answer.
        """
        folder = self._backends.artifacts.build(release.build)
        for image in release.images:
            name = f"{image.family}/{image.name}"
            change = record.change(name, release.release_tag)
            if change is None or not serves(self._backends, change.repository, change.tag, change.after):
                continue
            known = read_notes(folder, name)
            if known is None or (known.tag, known.digest) != (change.tag, change.after):
                write_notes(folder, self._notes(release, image, record, change))
        return write_page(release.build, [f"{image.family}/{image.name}" for image in release.images], self._backends)

    def _notes(
        self, release: ReleaseJson, image: ReleaseImage, record: ReleaseRecord, change: TagChange
    ) -> ReleaseNotes:
        records = [each for each in Ledger(self._backends.artifacts).records() if each.number < (record.begun or 0)]
        same_as, before = _released_before(change, records), _before(change.image, record, records)
        found: ImageDifference | str | None = None
        if before is not None and not same_as:
            moved = change.model_copy(update={"tag": LATEST, "before": before})
            found = self._comparison.compared(moved, image, release, scanned=True)
        difference = found if isinstance(found, ImageDifference) else None
        since = difference.older if difference and is_tag(difference.older) else ""
        return ReleaseNotes(
            image=change.image,
            repository=change.repository,
            tag=change.tag,
            digest=change.after or "",
            released=record.when,
            build=release.build,
            commit=release.commit,
            who=record.who,
            reasons=tuple(dict.fromkeys((*image.reasons, *image.because))),
            accepted_major=tuple(each for each in record.accepted_major if each.startswith(f"{change.image}: ")),
            since=since if serves(self._backends, change.repository, since, before) else "",
            same_as=same_as if serves(self._backends, change.repository, same_as, change.after) else "",
            difference=difference,
            unknown=found if isinstance(found, str) else "",
            vulnerabilities=None if difference else self._vulnerabilities(change),
        )

    def _vulnerabilities(self, change: TagChange) -> VulnerabilityChanges | None:
        production = self._backends.production
        reference = Reference(production.host, change.repository, digest=change.after or "")
        records = LayerRecords(self._settings.layer_records)
        try:
            return changes_of((), scan_image(production, reference, records, self._settings))
        except BadInput:  # what is not known of an image keeps no other from its notes
            return None


def _before(image: str, record: ReleaseRecord, records: Sequence[ReleaseRecord]) -> str | None:
    """What `:latest` pointed to before a release; of one that others had moved already, what was released last."""
    latest = record.change(image, LATEST)
    if latest is None or latest.before != latest.after:
        return latest.before if latest else None
    moved = (change for each in reversed(records) if each.done and (change := each.change(image, LATEST)))
    return next((change.after for change in moved if change.after not in (None, latest.after)), None)


def _released_before(change: TagChange, records: Iterable[ReleaseRecord]) -> str:
    """The tag under which the same image was released before; empty if it was not."""
    released = (other for each in records if each.done and each.action == "release" for other in each.changes)
    ours = (change.repository, change.after)
    same = (other.tag for other in released if (other.repository, other.after) == ours and other.tag != LATEST)
    return next((tag for tag in same if tag != change.tag), "")
