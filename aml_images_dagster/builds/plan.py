"""The plan of a build: what would be built, what would be taken over, and why. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.builds.parents import parent_finder
from aml_images_dagster.builds.recipe import Recipe, write_recipe
from aml_images_dagster.builds.reuse import reusable
from aml_images_dagster.builds.scenarios import scenario_key
from aml_images_dagster.catalog.content_key import explain
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.builds.records import PassedImage
    from aml_images_dagster.builds.session import BuildSession


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """What a build would do with one image.

    Attributes:
        image: `<family>/<name>`.
        action: Build it, take over what passed before, or refuse because it cannot be built.
        because: Why it must be built, which build it is taken from, or what stands in the way.
        reasons: Why the image is part of the build.
        bases: What it would stand on, reference to digest; a base that is yet to be built has no digest.
        scenarios: Each scenario, and whether it would run or has passed already.
    """

    image: str
    action: Literal["build", "reuse", "refuse"]
    because: tuple[str, ...]
    reasons: tuple[str, ...]
    bases: dict[str, str]
    scenarios: dict[str, Literal["run", "passed"]]


class _BuiltAnew(Exception):  # noqa: N818 - control flow inside of this module
    """A parent has no digest yet because the build would make it."""


def plan(session: BuildSession) -> list[PlannedImage]:
    """What the build would do, parents first.

    Raises:
        BadInput: Images are built FROM each other.
    """
    digests: dict[str, str | None] = {}

    def digest_of(parent: str) -> str:
        digest = digests[parent]
        if digest is None:
            raise _BuiltAnew(parent)
        return digest

    find_parent = parent_finder(session, digest_of)
    planned = []
    for name in session.source.catalogue.order(session.images):
        try:
            recipe = write_recipe(session.image(name), session.source, session.parts, find_parent)
        except _BuiltAnew as parent:
            digests[name] = None
            planned.append(_without_recipe(session, name, "build", f"its base {parent} is built anew"))
            continue
        except BadInput as fault:
            digests[name] = None
            planned.append(_without_recipe(session, name, "refuse", f"{fault.where}: {fault.what}"))
            continue
        passed = (
            None
            if session.force
            else reusable(recipe.key, recipe.image, session.parts, for_pull_request=bool(session.pull_request))
        )
        digests[name] = passed.staged.digest if passed else None
        planned.append(_reuse(session, recipe, passed) if passed else _build(session, recipe))
    return planned


def _without_recipe(session: BuildSession, name: str, action: Literal["build", "refuse"], because: str) -> PlannedImage:
    image = session.image(name)
    return PlannedImage(
        image=name,
        action=action,
        because=(because,),
        reasons=session.why(name),
        bases={use.reference: "" for use in image.dockerfile.uses},
        scenarios={scenario.name: "run" for scenario in image.scenarios},
    )


def _build(session: BuildSession, recipe: Recipe) -> PlannedImage:
    return PlannedImage(
        image=recipe.image.id,
        action="build",
        because=_why_build(session, recipe),
        reasons=session.why(recipe.image.id),
        bases={base.reference: base.digest for base in recipe.bases},
        scenarios={scenario.name: "run" for scenario in recipe.image.scenarios},
    )


def _reuse(session: BuildSession, recipe: Recipe, passed: PassedImage) -> PlannedImage:
    image, digest = recipe.image, passed.staged.digest
    keys = {record.key for record in passed.tested.scenarios}
    return PlannedImage(
        image=image.id,
        action="reuse",
        because=(f"passed in build {passed.staged.built_in}",),
        reasons=session.why(image.id),
        bases={base.reference: base.digest for base in recipe.bases},
        scenarios={
            scenario.name: "passed" if scenario_key(session, digest, image, scenario) in keys else "run"
            for scenario in image.scenarios
        },
    )


def _why_build(session: BuildSession, recipe: Recipe) -> tuple[str, ...]:
    if session.force:
        return ("forced",)
    last = session.parts.artifacts.read_last_passed(recipe.image.id)
    if last is None:
        return ("no build of it has passed yet",)
    changes = explain(last.staged.content_key, recipe.key)
    return tuple(changes) or ("it passed before, but staging no longer holds it",)
