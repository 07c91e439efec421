"""The images that a pull request changes, from git objects alone and within limits."""

from __future__ import annotations

from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from aml_images_dagster.builds.planning.plan import Selection, plan_build, with_needed_parents, within
from aml_images_dagster.builds.planning.preflight import check_folders, check_plan
from aml_images_dagster.builds.records import Plan
from aml_images_dagster.builds.session import Source
from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.context_files import IGNORE_FILE
from aml_images_dagster.catalog.discovery import discover
from aml_images_dagster.catalog.image import FACTORY_FILES, TESTS_FILE
from aml_images_dagster.catalog.layout import PRIVATE_SUFFIX
from aml_images_dagster.catalog.tree import CommitTree
from aml_images_dagster.catalog.validation import broken_images
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.pull_requests.declaration import DeclaredImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.git import ChangedFile
    from aml_images_dagster.settings import Settings

_PLANNING_SECONDS = 4
"""How long registries are waited for that a pull request names."""
_MAX_FACTORY_FILE_BYTES = 1_000_000
_BESIDE_DOCKERFILES = (PRIVATE_SUFFIX, IGNORE_FILE, ".tests.json", ".image.json")


class Changes(BaseModel):
    """What a pull request changes.

    Attributes:
        reasons: What to build, and why; empty when it changes no image.
        images: The same images as the pull request has them.
        notes: Further information.
        plan: What a build of these images does; None when no plan could be made, and the steps of its run decide.
    """

    model_config = ConfigDict(frozen=True)

    reasons: Selection
    images: tuple[DeclaredImage, ...]
    notes: tuple[str, ...]
    plan: Plan | None = None


def find_changes(settings: Settings, backends: Backends, target: str, head: str) -> Changes:
    """Compare a pull request with the branch that it goes to, as its page shows it.

    Args:
        settings: All settings; those of pull requests have the limits.
        backends: Where parents that the pull request does not touch may be found.
        target: Commit of the target branch.
        head: Commit of the pull request.

    Raises:
        BadInput: It is over a limit, asks for a compute of its own, or what it changes cannot be built.
        Unreachable: A registry that may hold a parent does not answer.
    """
    limits, root = settings.pull_requests, settings.repo
    tree = CommitTree(root, head)
    changed = git.changed_files(root, git.merge_base(root, target, head), head)
    if len(changed) > limits.max_files:
        raise BadInput(
            f"{len(changed)} files are changed, at most {limits.max_files} are evaluated",
            hint="Split the pull request; the limit is pull_requests.max_files.",
        )
    _check_sizes(tree, changed, limits.max_context_mb, settings.dockerfile_names)
    catalog = load_catalog(settings, tree)
    found = discover(tree, catalog, target, fallback=limits.nothing_changed == "all")
    if len(found.images) > limits.max_images:
        raise BadInput(
            f"{len(found.images)} images would have to be built, at most {limits.max_images} are",
            hint="Let a maintainer start the build; the limit is pull_requests.max_images.",
        )
    reasons: Selection = {image.id: image.reasons for image in found.images}
    untouched = [image.id for image in found.images if image.change in ("descendant", "fallback")]
    broken = _broken_before(untouched, catalog, tree, settings, target)
    reasons = {image: why for image, why in reasons.items() if image not in broken}
    plan = None
    if reasons:
        source = Source(tree, catalog, head, "")
        check_folders(source, reasons, backends, for_pull_request=True)
        _check_computes(reasons, source, target, settings)
        reasons = with_needed_parents(reasons, source, backends, settings)
        plan = _plan(reasons, source, backends, settings)
    notes = [f"{image.family}/{image.name} is removed: nothing to build" for image in found.removed]
    notes += [f"{image} is past its end of life: changed, but not built" for image in found.end_of_life]
    notes += [
        f"{image} is left out, its files are wrong in the target branch: {error}" for image, error in broken.items()
    ]
    images = tuple(DeclaredImage.of(catalog.images[image]) for image in sorted(reasons))
    return Changes(reasons=reasons, images=images, notes=tuple(notes), plan=plan)


def _broken_before(
    images: Sequence[str], catalog: Catalog, tree: CommitTree, settings: Settings, target: str
) -> dict[str, str]:
    """Those that cannot be built, and could not before, each with its error: this pull request cannot help it."""
    broken = broken_images(catalog, tree, images) if images else {}
    if not broken:
        return {}
    before = CommitTree(settings.repo, target)
    still = broken_images(load_catalog(settings, before), before, broken)
    return {image: error for image, error in broken.items() if image in still}


def _check_computes(reasons: Selection, source: Source, target: str, settings: Settings) -> None:
    """Refuse tests on a compute that the target branch does not use: what it costs is its owners' decision."""
    wanted = {tests.compute: image.path for image in map(source.catalog.get, reasons) if (tests := image.tests)}
    used = {"", settings.azure.compute}
    if wanted.keys() <= used:
        return
    with suppress(BadInput):  # the pull request may repair it
        images = load_catalog(settings, CommitTree(settings.repo, target)).images.values()
        used |= {image.tests.compute for image in images if image.tests}
    for compute in sorted(wanted.keys() - used):
        raise BadInput(
            f"compute {compute!r} is used by no image of the target branch",
            where=f"{wanted[compute]}/{TESTS_FILE}",
            hint="Leave it out, or let a maintainer use it first.",
        )


def _plan(reasons: Selection, source: Source, backends: Backends, settings: Settings) -> Plan | None:
    """The run reports an error in the plan; a large image may still be built."""
    try:
        plan = within(
            _PLANNING_SECONDS, lambda: plan_build(reasons, source, backends, settings, pull_request=source.commit)
        )
        check_plan(plan)
    except (FactoryError, OSError, MemoryError):
        return None
    return plan


def _is_read_whole(name: str, dockerfile_names: Sequence[str]) -> bool:
    """Whether a file may be one that the factory reads: a Dockerfile, or what stands beside one."""
    is_of_tests = name.startswith("tests.") and name.endswith(".json")
    return (
        is_of_tests
        or name in FACTORY_FILES
        or name.endswith(_BESIDE_DOCKERFILES)
        or any(fnmatchcase(name, pattern) for pattern in dockerfile_names)
    )


def _check_sizes(
    tree: CommitTree, changed: Sequence[ChangedFile], max_context_mb: float, dockerfile_names: Sequence[str]
) -> None:
    """Refuse what is too large before anything reads it into memory."""
    files = tree.files()
    present = [change.path for change in changed if change.path in files]
    sizes = dict(zip(present, git.object_sizes(tree.root, [files[path].oid or "" for path in present]), strict=True))
    for path, size in sizes.items():
        if size > _MAX_FACTORY_FILE_BYTES and _is_read_whole(path.rpartition("/")[2], dockerfile_names):
            raise BadInput(
                f"the file has {size / 1e6:.1f} MB, at most {_MAX_FACTORY_FILE_BYTES / 1e6:g} MB are read",
                where=path,
                hint="Make it smaller, so that it can be reviewed.",
            )
    total = sum(sizes.values())
    if total > max_context_mb * 1e6:
        largest = max(sizes, key=sizes.__getitem__)
        raise BadInput(
            f"the changed files have {total / 1e6:.0f} MB, at most {max_context_mb:g} MB are built",
            where=f"{largest} with {sizes[largest] / 1e6:.0f} MB",
            hint="Let the Dockerfile download large files; the limit is pull_requests.max_context_mb.",
        )
