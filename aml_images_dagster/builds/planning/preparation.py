"""Preparation of a build that a person asks for: its images, its plan, its release tag.

Nothing is changed. What can be refused is refused here, before anything has started.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aml_images_dagster.builds.ledger import next_release_num
from aml_images_dagster.builds.naming import release_tag_for
from aml_images_dagster.builds.planning.plan import Selection, plan_build, with_needed_parents
from aml_images_dagster.builds.planning.preflight import check_folders
from aml_images_dagster.builds.source import discover_images, load_source
from aml_images_dagster.builds.steps.recipe import secrets_of
from aml_images_dagster.catalog.discovery import nothing_to_build
from aml_images_dagster.errors import BadInput
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.settings import Settings


class NothingChanged(BadInput):
    """No image changed, and the person asks for none then. Not a mistake for who expects it, such as a pipeline."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asks for.

    Attributes:
        asked: Where, to follow a verb: `on the command line`.
        images: Images by name. Without: what changed since `base`.
        base: A branch, tag or commit; empty for the main branch.
        head: The commit to build; empty for the setting, else the working tree.
        everything: All images that are not past their end of life.
        release_num: Number of the release on its day; None for the next free one.
        release_tag: Replaces the whole release tag.
        force: Build and test again even if the image has passed already.
        fallback: Take all images when none changed.
    """

    asked: str
    images: tuple[str, ...] = ()
    base: str = ""
    head: str = ""
    everything: bool = False
    release_num: int | None = None
    release_tag: str = ""
    force: bool = False
    fallback: bool = True


@dataclass(frozen=True, slots=True)
class PreparedBuild:
    """A build that can be started if its plan is not refused.

    Attributes:
        plan: What it does with each image.
        source: The image folders.
        release_num: Number of the release on its day; None with a release tag.
        release_tag: The tag under which it is to be released.
    """

    plan: Plan
    source: Source
    release_num: int | None
    release_tag: str


def prepare(
    wanted: Wanted,
    settings: Settings,
    backends: Backends,
    warn: Callable[[str], None],
    promised: Callable[[Collection[str]], Iterable[int]] = lambda _: (),
) -> PreparedBuild:
    """Find the images of a build, and plan it.

    Args:
        wanted: What a person asks for.
        settings: All settings.
        backends: Registries, and the records of other builds.
        warn: Receives what does not stop the build.
        promised: Release numbers of builds of some images that have yet to begin.

    Raises:
        NothingChanged: There is nothing to build, without `fallback`.
        BadInput: The options contradict each other, name what does not exist, or an image folder cannot be built.
        Unreachable: Staging or the artifacts store does not answer.
    """
    now, number = datetime.now(UTC), wanted.release_num
    release_tag_for(now, number, wanted.release_tag)  # contradictions are reported before anything is read
    if sum((bool(wanted.images), bool(wanted.base), wanted.everything)) > 1:
        raise BadInput("images, a base and all images cannot be combined", where="build", hint="Give one of them.")
    # The code location, which is given no head, reads it by the setting, too.
    source = load_source(settings, wanted.head or settings.source_commit)
    chosen = _choose(wanted, settings, source)
    if not chosen:
        raise _nothing_to_build(wanted, settings, source)
    check_folders(source, chosen, backends)
    selection = with_needed_parents(chosen, source, backends, settings)
    if parents := selection.keys() - chosen.keys():  # which nobody has chosen
        check_folders(source, parents, backends)
    if number is None and not wanted.release_tag:
        number = next_release_num(
            now.date(),
            selection,
            backends.artifacts,
            promised(selection),
            unreadable=lambda error: warn(f"the release number may be taken, because a record cannot be read: {error}"),
        )
    tag = release_tag_for(now, number, wanted.release_tag)
    plan = plan_build(selection, source, backends, settings, force=wanted.force)
    for step in plan.images:
        if step.action == "build":
            secrets_of(source.catalog.get(step.image), settings)
    return PreparedBuild(plan, source, number, tag)


def _nothing_to_build(wanted: Wanted, settings: Settings, source: Source) -> BadInput:
    catalog = source.catalog
    if not catalog.images:
        return catalog.layout.nothing_found(source.tree.files(), source.tree.root)
    if wanted.fallback and not catalog.select_default():
        what = f"nothing to build: {counted(len(catalog.images), 'image')}, past their end of life"
        return BadInput(what, where="eol in image.json", hint="Name images to build them anyway.")
    found = discover_images(settings, wanted.base, wanted.head, fallback=wanted.fallback)
    gone = ", ".join(f"{image.family}/{image.name}" for image in found.removed)
    what = nothing_to_build(found.merge_base) + (f"; gone: {gone}" if gone else "")
    kind = BadInput if wanted.fallback and not gone else NothingChanged
    return kind(what, where=found.base[:12], hint="Name images, or take all: --all.")


def _choose(wanted: Wanted, settings: Settings, source: Source) -> Selection:
    if wanted.images:
        reason = (f"named {wanted.asked}",)
        return {source.catalog.get(image).id: reason for image in wanted.images}
    if wanted.everything:
        return dict.fromkeys(source.catalog.select_default(), (f"all images, asked for {wanted.asked}",))
    found = discover_images(settings, wanted.base, wanted.head, fallback=wanted.fallback)
    return {image.id: image.reasons for image in found.images}
