"""Rollback: moves `:latest` of an image back to an earlier release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import LATEST, Ledger, TagChange, released_images
from aml_images_dagster.catalog.image_name import full_name
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, ReleaseFailed
from aml_images_dagster.release.actor import stated
from aml_images_dagster.release.production import check_unmoved, exclusively

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.history import Latest, ReleasedVersion
    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.settings import Settings


def released_image(name: str, backends: Backends) -> str:
    """The image that a person names, by `<family>/<name>` or by a name that only one released image has.

    Raises:
        BadInput: There is no such image in the ledger, or there are several.
    """
    known = released_images(Ledger(backends.artifacts).records())
    absent = f"no image {name!r} was released"
    return full_name(name, known, absent, "`aml-images releases` shows what was released.")


def plan_rollback(image: str, to: str, backends: Backends) -> tuple[ReleasedVersion, TagChange]:
    """The release to go back to, and how `:latest` moves. Nothing is changed.

    Args:
        image: `<family>/<name>`.
        to: Release tag; empty for what `:latest` pointed to before, or to complete an incomplete rollback.
        backends: Production, and the artifacts store.

    Raises:
        BadInput: There is no such release, or production does not serve it.
    """
    history = History(Ledger(backends.artifacts).records())
    known = history.versions(image)
    reference = Reference(backends.production.host, known[0].repository, LATEST)
    now = backends.production.digest(reference)
    latest = history.latest(reference.repository, now)
    found = [_named(known, to, latest)] if to else _before(known, latest)
    tags = {version.tag: backends.production.digest(reference.with_tag(version.tag)) for version in found}
    version = next((version for version in found if tags[version.tag] == version.digest), found[0])
    served = tags[version.tag]
    if served != version.digest:
        raise BadInput(
            f"{version.repository}:{version.tag} serves {served or 'nothing'}, but {version.digest} was released",
            where=backends.production.host,
            hint="Another client changed production. Roll back to another release with --to.",
        )
    return version, TagChange(image=image, repository=version.repository, tag=LATEST, before=now, after=version.digest)


def roll_back(
    image: str, to: str, reason: str, backends: Backends, settings: Settings, who: str, report: Callable[[str], None]
) -> ReleaseRecord | None:
    """Let `:latest` of an image point to an earlier release; None when it does already.

    Raises:
        BadInput: See `plan_rollback`; or the reason says nothing.
        ReleaseFailed: Production serves something else afterwards, or another process may change it by now.
    """
    reason = stated(reason, "reason")
    with exclusively(backends, settings, who, f"rollback of {image}", report) as lease:
        version, change = plan_rollback(image, to, backends)
        ledger = Ledger(backends.artifacts)
        begun = History(ledger.records()).resumable("rollback", version.record.build, (change,))
        if change.before == change.after and begun is None:
            return None
        lease.check()
        begun = begun or ledger.begin("rollback", version.record, (change,), who, reason)
        lease.check()
        latest = Reference(backends.production.host, version.repository, LATEST)
        check_unmoved(latest, (change.before, change.after), backends.production)
        backends.production.tag(latest.with_digest(version.digest), LATEST)
        served = backends.production.digest(latest)
        if served != version.digest:
            raise ReleaseFailed(
                f"serves {served or 'nothing'} after the rollback, not {version.digest}",
                where=str(latest),
                hint="Another client changes production at the same time. Roll back again.",
            )
        report(f"{change.name} is {version.digest}")
        lease.check()
        return ledger.complete(begun, who, reason=reason)


def _named(known: Sequence[ReleasedVersion], tag: str, latest: Latest) -> ReleasedVersion:
    # An incomplete release counts once `:latest` pointed to it.
    released = [v for v in known if v.done or v.digest in latest.digests]
    version = next((version for version in released if version.tag == tag), None)
    if version is None or version.withdrawn:
        tags = ", ".join(version.tag for version in released if not version.withdrawn)
        raise BadInput(
            f"{known[0].image} has no release {tag!r}" + (": it was withdrawn" if version else ""),
            where="--to",
            hint=f"Its releases: {tags or 'none'}.",
        )
    return version


def _before(known: Sequence[ReleasedVersion], latest: Latest) -> list[ReleasedVersion]:
    """The releases of what was served before; an unrecorded release of a drop is skipped."""
    states = latest.states[-1:] if latest.unfinished else latest.earlier
    for state in states:
        of_it = [version for version in known if version.digest == state.digest and not version.withdrawn]
        tag = state.record.release_tag if state.record else ""
        if of_it:
            return sorted(of_it, key=lambda version: version.tag != tag)
    raise BadInput(
        f"{known[0].image} has no earlier release",
        where=f"{known[0].repository}:{LATEST}",
        hint="Release a build in its place.",
    )
