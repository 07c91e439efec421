"""Withdrawal: removes a release tag permanently.

The image stays in production for users who have pinned its digest, with its end of life attached to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import LATEST, Ledger, TagChange
from aml_images_dagster.builds.versions.release_notes import forget_in_notes
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.release.actor import stated
from aml_images_dagster.release.production import exclusively
from aml_images_dagster.release.rollback import plan_rollback
from aml_images_dagster.trust.referrers import attach, end_of_life

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.history import ReleasedVersion
    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.settings import Settings


def plan_withdrawal(image: str, tag: str, backends: Backends) -> tuple[ReleasedVersion, TagChange]:
    """The release that would be withdrawn, completed or not, and its tag. Nothing is changed.

    Raises:
        BadInput: There is no such release, or `:latest` points to it.
    """
    history = History(Ledger(backends.artifacts).records())
    known = history.versions(image)
    version = next((version for version in known if version.tag == tag), None)
    if version is None:
        raise BadInput(
            f"{image} has no release {tag!r}",
            where="withdraw",
            hint=f"Its releases: {', '.join(history.tags(image)) or 'none'}.",
        )
    reference = Reference(backends.production.host, version.repository, tag)
    if backends.production.digest(reference.with_tag(LATEST)) == version.digest:
        raise BadInput(
            f":latest points to {image} {tag}", where=str(reference), hint=_first(image, version.digest, backends)
        )
    before = backends.production.digest(reference)
    return version, TagChange(image=image, repository=version.repository, tag=tag, before=before, after=None)


def _first(image: str, digest: str, backends: Backends) -> str:
    """How `:latest` gets away from a digest, by a way that is open."""
    another = "release another build"
    try:
        earlier: ReleasedVersion | None = plan_rollback(image, "", backends)[0]
    except BadInput:
        earlier = None
    if earlier is None or earlier.digest == digest:
        return f"It has no earlier release with another image: {another} first."
    return f"Run `aml-images rollback {image}` first, or {another}."


def withdraw(
    image: str, tag: str, reason: str, backends: Backends, settings: Settings, who: str, report: Callable[[str], None]
) -> ReleaseRecord | None:
    """Remove a release tag from production; None when that is done already.

    Raises:
        BadInput: See `plan_withdrawal`; or the reason says nothing.
        ReleaseFailed: Another process may change production by now.
        Unreachable: Production does not answer, or still has the tag.
    """
    reason = stated(reason, "reason", required=True)
    with exclusively(backends, settings, who, f"withdrawal of {image} {tag}", report) as lease:
        version, change = plan_withdrawal(image, tag, backends)
        ledger = Ledger(backends.artifacts)
        history = History(ledger.records())
        begun = history.resumable("withdrawal", version.record.build, (change,))
        withdrawn = history.withdrawal(change.name)
        if begun is None and withdrawn is not None and withdrawn.done and change.before is None:
            return None
        lease.check()
        begun = begun or ledger.begin("withdrawal", version.record, (change,), who, reason)
        lease.check()
        if not _has_other_releases(version, history):
            _end_life(version, begun.when.date(), backends)
            lease.check()
        backends.production.untag(Reference(backends.production.host, version.repository, tag))
        report(f"{change.name} is withdrawn")
        try:
            forget_in_notes(image, tag, backends)
        except (FactoryError, OSError) as error:
            report(f"The release notes in the artifacts still name it: {error}")
        lease.check()
        return ledger.complete(begun, who, reason=reason)


def _has_other_releases(version: ReleasedVersion, history: History) -> bool:
    """Whether an image was released under another tag as well, which stays."""
    others = (other for other in history.versions(version.image) if other.digest == version.digest)
    return any(
        other.tag != version.tag and history.withdrawal(f"{other.repository}:{other.tag}") is None for other in others
    )


def _end_life(version: ReleasedVersion, day: date, backends: Backends) -> None:
    """Attach the end of life to an image in production."""
    image = Reference(backends.production.host, version.repository, digest=version.digest)
    if backends.production.digest(image) is not None:
        attach(backends.production, image, [end_of_life(day)])
