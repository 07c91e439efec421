"""The plan of a build: its images, what is built, what is reused, which scenarios run, and why. It changes nothing.

A build is planned before it starts, and its run has only the steps that the plan requires. The steps follow the
plan instead of making it again, and verify what they rely on (steps/staging.py).
"""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from queue import Empty, Queue
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.records import PinnedBase, Plan, PlannedImage, PlannedScenario
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.builds.steps.bases import pin_bases
from aml_images_dagster.builds.steps.parents import finder_elsewhere, parent_finder
from aml_images_dagster.builds.steps.recipe import recipe_of, why_built
from aml_images_dagster.builds.steps.reuse import reusable
from aml_images_dagster.builds.steps.scenarios import is_testable, passed_scenarios, scenario_key, scenario_runs
from aml_images_dagster.errors import BadInput, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from datetime import date

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import PassedImage
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.builds.steps.bases import FindParent
    from aml_images_dagster.builds.steps.recipe import Recipe
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings

Selection = dict[str, tuple[str, ...]]
"""Images by `<family>/<name>`, each with its reasons."""
_AT_ONCE = 8
"""Images for which registries are asked at once."""


def with_needed_parents(
    chosen: Mapping[str, tuple[str, ...]], source: Source, backends: Backends, settings: Settings
) -> Selection:
    """Add every image of our own that a chosen one is FROM and that is not available otherwise.

    Raises:
        BadInput: Images that are needed are built FROM each other.
    """
    selection: Selection = dict(chosen)
    catalog = source.catalog
    elsewhere = finder_elsewhere(source, backends, settings)
    for name in reversed(catalog.order(catalog.with_ancestors(chosen))):
        for parent in catalog.images[name].parents if name in selection else ():
            if parent not in selection and (why := _unavailable(parent, catalog.images[name], elsewhere, backends)):
                selection[parent] = (f"{name} is built FROM it, and it {why}",)
    return selection


def left_out(
    images: Collection[str], named: Collection[str], source: Source, backends: Backends, today: date
) -> dict[str, str]:
    """The images that a build of many leaves out, each with the reason in a sentence.

    Those are images past their end of life, and Windows images where nothing builds them, unless they are named. Where
    no other image would remain, none is left out: who asks for nothing else means them.
    """
    found: dict[str, str] = {}
    wanted = {image for image in images if image in source.catalog.images}
    for name in sorted(wanted.difference(named)):
        image = source.catalog.images[name]
        if image.is_past_end_of_life(today):
            found[name] = f"{name} is left out: it is past its end of life ({image.settings.eol}); build it by its name"
        elif image.os == "windows" and backends.windows_builder is None:
            found[name] = f"{name} is left out: nothing is configured that builds Windows images (windows_docker_host)"
    return {} if found.keys() == wanted else found


def _unavailable(parent: str, image: Image, find: FindParent, backends: Backends) -> str:
    """Why an image cannot be built on what there is of a parent; empty if it can."""
    try:
        found = find(parent)
    except BadInput:  # a base of it can't be resolved; the plan says so when it is part of the build
        found = None
    if found is None:
        return "was neither released nor has it passed"
    if len(image.platforms) > 1 and not {*image.platforms} <= {*backends.resolver.platforms(str(found))}:
        return "was not built for all its platforms"
    return ""


def plan_build(
    selection: Selection,
    source: Source,
    backends: Backends,
    settings: Settings,
    *,
    force: bool = False,
    pull_request: str = "",
) -> Plan:
    """Plan a build that has yet to be started.

    Args:
        selection: Its images, each with the reasons why it is part of it.
        source: Where the image folders come from.
        backends: Registries, and the records of what passed before.
        settings: All settings.
        force: Build and test again even if the image has passed already.
        pull_request: Number of the pull request that it is for; empty for any other build.

    Raises:
        BadInput: Images are built FROM each other.
        Unreachable: Staging or the artifacts store does not answer.
    """
    run_id, now = str(uuid.uuid4()), datetime.now(UTC)
    return plan(
        BuildSession(
            number=build_number(run_id, now),
            run_id=run_id,
            created=now,
            release_tag="",
            images=frozenset(selection),
            source=source,
            settings=settings,
            backends=backends,
            reasons=selection,
            force=force,
            pull_request=pull_request,
        )
    )


def within(seconds: float, ask: Callable[[], Plan]) -> Plan:
    """A plan within some seconds: a registry that hangs, which a stranger may have named, must not cost a tick.

    Raises:
        Unreachable: There is none yet.
    """
    answers: Queue[Plan | Exception] = Queue()

    def answer() -> None:
        try:
            answers.put(ask())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where it was asked for
            answers.put(error)

    threading.Thread(target=answer, name="plan", daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except Empty:
        raise Unreachable(f"the plan was not complete within {seconds:g} s", where="registries") from None
    if isinstance(found, Exception):
        raise found
    return found


def plan(session: BuildSession) -> Plan:
    """What a build does, parents first.

    Raises:
        BadInput: Images are built FROM each other.
        Unreachable: Staging or the artifacts store does not answer.
    """
    digests: dict[str, str] = {}
    find_parent = parent_finder(session, lambda parent: digests[parent])
    planned: dict[str, PlannedImage] = {}
    session.backends.import_sdks()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for generation in _generations(session):
            recipes: list[Recipe] = []
            for name in generation:
                try:
                    bases = pin_bases(session.image(name), session.source.catalog, session.backends, find_parent)
                    _check_parents(session.image(name), bases, planned)
                    recipes.append(recipe_of(session.image(name), session.source, bases))
                except BadInput as fault:
                    planned[name] = _refused(session, name, fault)
            for recipe, passed in zip(recipes, pool.map(partial(_reusable, session), recipes), strict=True):
                planned[recipe.image.id] = _planned(session, recipe, passed)
            digests |= {name: planned[name].digest for name in generation}
    return Plan(commit=session.source.commit, images=tuple(planned.values()))


def _generations(session: BuildSession) -> list[list[str]]:
    """The images of a build: those that are FROM none of them, those that are FROM these, and so on."""
    depths: dict[str, int] = {}
    generations: list[list[str]] = []
    for name in session.source.catalog.order(session.images):
        depths[name] = max(
            (depths[parent] + 1 for parent in session.image(name).parents if parent in depths), default=0
        )
        if depths[name] == len(generations):
            generations.append([])
        generations[depths[name]].append(name)
    return generations


def _reusable(session: BuildSession, recipe: Recipe) -> list[PassedImage]:
    """The records of what passed with the same key; an image with a base that is yet to be built has none."""
    if session.force or not all(base.digest for base in recipe.bases):
        return []
    return reusable(recipe.key, recipe.image, session.backends, for_pull_request=bool(session.pull_request))


def _planned(session: BuildSession, recipe: Recipe, passed: list[PassedImage]) -> PlannedImage:
    is_known = all(base.digest for base in recipe.bases)
    staged = passed[0].staged if passed else None
    return PlannedImage(
        image=recipe.image.id,
        action="reuse" if staged else "build",
        because=(f"passed in build {staged.built_in}",) if staged else why_built(session, recipe),
        reasons=session.why(recipe.image.id),
        bases=tuple(base if base.digest else base.model_copy(update={"pull": ""}) for base in recipe.bases),
        scenarios=_scenarios(session, recipe.image, passed),
        content_key=recipe.key.digest if is_known else "",
        digest=staged.digest if staged else "",
        built_in=staged.built_in if staged else "",
    )


def _check_parents(image: Image, bases: Iterable[PinnedBase], planned: Mapping[str, PlannedImage]) -> None:
    for base in bases:
        if base.image in planned and planned[base.image].action == "refuse":
            raise BadInput(f"its base {base.image} cannot be built", where=image.dockerfile_path)


def _refused(session: BuildSession, name: str, fault: BadInput) -> PlannedImage:
    image = session.image(name)
    return PlannedImage(
        image=name,
        action="refuse",
        because=(f"{fault.where}: {fault.what}",),
        reasons=session.why(name),
        bases=tuple(PinnedBase(reference=use.reference, digest="", pull="") for use in image.dockerfile.uses),
        scenarios=_scenarios(session, image, []),
    )


def _scenarios(session: BuildSession, image: Image, passed: list[PassedImage]) -> tuple[PlannedScenario, ...]:
    before = passed_scenarios(passed)
    planned = []
    for run in scenario_runs(image):
        key = scenario_key(session, passed[0].staged.digest, image, run) if passed else ""
        record = before.get(key)
        left: Literal["run", "untested"] = "run" if is_testable(session, run.platform) else "untested"
        planned.append(
            PlannedScenario(
                name=run.scenario.name,
                status="passed" if record else left,
                key=key,
                tested_in=record.tested_in if record else "",
                platform=run.platform,
            )
        )
    return tuple(planned)
