"""The prerequisites of a build and a release, as checks: those of the backends, and those of every profile."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from aml_images_dagster.builds.artifacts import create_atomically, read_whole
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.builds.steps.bases import resolve_base
from aml_images_dagster.builds.steps.parents import finder_elsewhere
from aml_images_dagster.builds.steps.scenarios import scenario_runs
from aml_images_dagster.catalog import git
from aml_images_dagster.checks import Check
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.settings import Settings, unknown_variables
from aml_images_dagster.text import counted
from aml_images_dagster.trust.checks import trust_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.registry.resolution import ResolvedBase

    Resolve = Callable[[str], ResolvedBase]


def prerequisites(settings: Settings, backends: Backends, images: Collection[str] = ()) -> tuple[Check, ...]:
    """All checks, in the order in which a person would fix their findings. They leave no changes.

    The prerequisites of the image folders are checked as well, if the folders can be read.

    Args:
        settings: All settings.
        backends: Engine, registries, test runner, artifacts store.
        images: Whose needs are asked for; empty: those of every image that is not past its end of life. What only some
            of those need names them.

    Raises:
        BadInput: There is no such image.
    """
    checks = [Check("settings", lambda: _settings(settings)), Check("git", lambda: _git(settings)), *backends.checks]
    try:
        source = load_source(settings, settings.source_commit)
    except FactoryError as fault:
        checks.insert(2, Check("image folders", _raising(fault)))
    else:
        checks.insert(2, Check("image folders", lambda: _folders(source)))
        named = [source.catalog.images[source.catalog.get(image).id] for image in images]
        resolve = _resolving(source, backends, settings)
        checks += _needed_by_images(named, backends, resolve) if named else _needed_by_any(source, backends, resolve)
    return (*checks, Check("artifacts store", lambda: _artifacts(backends.artifacts)), *trust_checks(settings))


def _settings(settings: Settings) -> str:
    unknown = unknown_variables(settings.repo)
    if unknown:
        meant = ", ".join(filter(None, unknown.values()))
        raise BadInput(
            f"no such setting: {', '.join(unknown)}",
            where="the environment or .env",
            hint=f"Did you mean {meant}?" if meant else "docs/configuration.md has all settings.",
        )
    return f"profile {settings.profile}"


def _git(settings: Settings) -> str:
    if not git.is_repository(settings.repo):
        raise BadInput(
            "not a git repository",
            where=str(settings.repo),
            hint="Run `git init` there, or name another folder with --repo: changes are found by git.",
        )
    if git.is_shallow(settings.repo):
        raise BadInput(
            "the clone is shallow, so changes since the main branch cannot be found",
            where=str(settings.repo),
            hint="Run `git fetch --unshallow`; in a pipeline, check out with the whole history.",
        )
    return f"{settings.repo} at {git.describe(settings.repo)[:12]}"


def _folders(source: Source) -> str:
    count = len(source.catalog.images)
    if not count:
        raise source.catalog.layout.nothing_found(source.tree.files(), source.tree.root)
    return counted(count, "image")


def _needed_by_images(images: Sequence[Image], backends: Backends, resolve: Resolve) -> list[Check]:
    checks = [_readable(image) for image in images if image.parsed is None]
    checks += [Check(f"base {base}", partial(_base, resolve, base), only_for="build") for base in _bases(images)]
    if _lacks_builder(images, backends):
        checks.append(_windows_builder(backends))
    return [_test_machines(images, backends), *checks]


def _needed_by_any(source: Source, backends: Backends, resolve: Resolve) -> list[Check]:
    """The same for all images; those of a builder that is not there need nothing else."""
    catalog = source.catalog
    images = [catalog.images[name] for name in catalog.select_default()]
    lacking = _lacks_builder(images, backends)
    others = [image for image in images if image not in lacking]
    checks = [
        replace(_readable(image), images=_built_on([image.id], others, catalog))
        for image in others
        if image.parsed is None
    ]
    checks += [
        Check(
            f"base {base}",
            partial(_base, resolve, base),
            images=_built_on(users, others, catalog),
            only_for="build",
        )
        for base, users in _bases(others).items()
    ]
    if lacking:
        checks.append(replace(_windows_builder(backends), images=tuple(image.id for image in lacking)))
    return [_test_machines(others, backends), *checks]


def _readable(image: Image) -> Check:
    return Check(f"image folder {image.path}", lambda: counted(len(image.dockerfile.stages), "stage"), only_for="build")


def _bases(images: Sequence[Image]) -> dict[str, list[str]]:
    """Bases that no image of the catalog is followed for, sorted, each with the images that name it."""
    bases: dict[str, list[str]] = {}
    for image in images:
        for base in image.bases:
            bases.setdefault(base, []).append(image.id)
    return dict(sorted(bases.items()))


def _built_on(users: list[str], images: Sequence[Image], catalog: Catalog) -> tuple[str, ...]:
    """Images that cannot be built without some, or without what these need."""
    found = set(users)
    with suppress(BadInput):  # images that are FROM each other are a finding of their own
        found |= catalog.descendants(users)
    return tuple(image.id for image in images if image.id in found)


def _lacks_builder(images: Sequence[Image], backends: Backends) -> list[Image]:
    return [image for image in images if image.os == "windows"] if backends.windows_builder is None else []


def _windows_builder(backends: Backends) -> Check:
    return Check("Windows builder", lambda: backends.builder_for("windows").info().version, only_for="build")


def _test_machines(images: Sequence[Image], backends: Backends) -> Check:
    computes = {image.tests.compute for image in images if image.tests}
    platforms = {run.platform for image in images for run in scenario_runs(image) if run.platform}

    def ask() -> str:
        return backends.runner.check(computes, {each for each in platforms if backends.runner.runs(each)})

    return Check("tests", ask, only_for="build")


def _resolving(source: Source, backends: Backends, settings: Settings) -> Resolve:
    find = finder_elsewhere(source, backends, settings)
    return lambda reference: resolve_base(reference, source.catalog, backends, find)


def _base(resolve: Resolve, reference: str) -> str:
    found = resolve(reference)
    return f"{found.digest[:19]}, {'held by the engine only' if found.from_engine else found.pull.partition('@')[0]}"


def _artifacts(artifacts: Artifacts) -> str:
    """Create, read and remove a file, as a build does; to create it once more has to fail."""
    probe, content = artifacts.root / f".doctor-{uuid.uuid4().hex}", b"may be removed"
    hint = "Name another store with AML_IMAGES_ARTIFACTS, or give this user (in Azure: identity) the right to write."
    created_twice = True
    try:
        create_atomically(probe, content)
        try:
            read = read_whole(probe)
            create_atomically(probe, content)
        except FileExistsError:
            created_twice = False
        finally:
            probe.unlink()
    except BadInput:
        raise
    except Exception as error:  # noqa: BLE001 - each kind of store raises its own
        raise BadInput(f"cannot be written: {error}", where=str(artifacts.root), hint=hint) from None
    if read != content:
        raise BadInput("returns other content than was written", where=str(artifacts.root), hint=hint)
    if created_twice:
        raise BadInput("lets two processes create one file", where=str(artifacts.root), hint=hint)
    return str(artifacts.root)


def _raising(fault: FactoryError) -> Callable[[], str]:
    def ask() -> str:
        raise fault

    return ask
