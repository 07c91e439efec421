"""The main branch: the source of builds that start automatically, independent of the working tree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.ledger import next_release_num
from aml_images_dagster.builds.planning.plan import with_needed_parents
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.validation import broken_images
from aml_images_dagster.defs.keys import images_with_assets
from aml_images_dagster.defs.planning import promised_numbers, to_do
from aml_images_dagster.defs.request import COMMIT_TAG, IMAGES_TAG, TRIGGER_TAG, build_config, images_tag
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.pull_requests.remote import TARGET_REF, GitRemote
from aml_images_dagster.settings.pull_requests import DEFAULT_REMOTE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import Logger

    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.catalog.catalog import Reasons
    from aml_images_dagster.defs.run import Factory

_PLANNING_SECONDS = 30
"""Dagster ends a tick after 60 s."""


@dataclass(frozen=True, slots=True)
class MainImages:
    """The images of the main branch.

    Attributes:
        source: Where their files are.
        commit: Its commit; empty outside of git.
        loaded: Those that the code location has assets for and that are not broken. Others were added to the branch
            since it was loaded.
        broken: Those whose files are wrong, each with its first error: they are left out, and the others are built.
    """

    source: Source
    commit: str
    loaded: frozenset[str]
    broken: Mapping[str, str]

    @property
    def left_out(self) -> list[str]:
        """The broken images, in words."""
        return [f"{image} is left out: {error}" for image, error in sorted(self.broken.items())]


class MainBranch:
    """The main branch: the remote's, fetched within limits; without a remote that of the clone.

    It is read again when it has moved.

    Args:
        factory: Names the repository, and the images that the code location has loaded.
    """

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._with_assets = frozenset(image.id for image in images_with_assets(factory.source.catalog))
        self._read: MainImages | None = None

    def images(self) -> MainImages:
        """Its images now; outside of git those of the code location.

        Raises:
            BadInput: There is no such branch, or it has no folder of images.
            Unreachable: The remote does not answer.
        """
        settings = self._factory.settings
        if not git.is_repository(settings.repo):
            return self._of(self._factory.source, "")
        if self._has_remote():
            return self._at(GitRemote(settings.repo, settings.pull_requests).update_target())
        return self._at(git.resolve(settings.repo, git.main_branch(settings.repo)))

    def known_images(self) -> MainImages:
        """Its images as they were fetched last, for a build of old files instead of none.

        Raises:
            BadInput: It was never fetched.
        """
        repo = self._factory.settings.repo
        try:
            return self._at(git.resolve(repo, TARGET_REF))
        except BadInput:
            return self._at(git.resolve(repo, git.main_branch(repo)))

    def _has_remote(self) -> bool:
        settings = self._factory.settings
        return settings.pull_requests.remote != DEFAULT_REMOTE or bool(git.origin_url(settings.repo))

    def _at(self, commit: str) -> MainImages:
        if self._read is None or self._read.commit != commit:
            self._read = self._of(load_source(self._factory.settings, commit), commit)
        return self._read

    def _of(self, source: Source, commit: str) -> MainImages:
        broken = broken_images(source.catalog, source.tree)
        buildable = {image.id for image in images_with_assets(source.catalog)}
        return MainImages(source, commit, (self._with_assets & buildable) - broken.keys(), broken)


def main_build(
    factory: Factory,
    main: MainImages,
    images: Reasons,
    instance: dg.DagsterInstance,
    log: Logger,
    *,
    run_key: str,
    trigger: str,
    tags: Mapping[str, str],
    force: bool = False,
    job_name: str | None = None,
) -> dg.RunRequest:
    """Ask for a build of images of the main branch, and of the parents that they need.

    It takes the next free release number of the day, so that its release is not refused because of another build.

    Args:
        factory: The backends that know which parents are available.
        main: The main branch.
        images: What to build, and why.
        instance: Knows the builds that have yet to begin.
        log: Receives warnings.
        run_key: Dagster starts no second run with the same.
        trigger: What starts it, in a word or two.
        tags: Further tags of the run.
        force: Build and test again even if the image has passed already.
        job_name: The job, for a sensor that starts runs of several.
    """
    factory.backends.resolver.forget()
    try:
        selection = with_needed_parents(images, main.source, factory.backends, factory.settings)
    except FactoryError as error:
        # The build says it as well, if a parent is really missing; a registry that is away now must not cost a tick.
        log.warning(f"parents were not searched for: {error}")
        selection = dict(images)
    for told in main.left_out:
        log.warning(told)
    selection = {image: why for image, why in selection.items() if image in main.loaded}
    requested = to_do(factory, selection, main.source, seconds=_PLANNING_SECONDS, force=force)
    if requested.unplanned:
        log.warning(f"the run makes its own plan: {requested.unplanned}")
    today, artifacts = datetime.now(UTC).date(), factory.backends.artifacts
    number = next_release_num(
        today,
        selection,
        artifacts,
        promised_numbers(today, selection, artifacts, instance),
        unreadable=lambda error: log.warning(f"the release number may be taken: {error}"),
    )
    return dg.RunRequest(
        run_key=run_key,
        job_name=job_name,
        asset_selection=requested.keys,
        run_config=build_config(release_num=number, source_commit=main.commit, force=force, **requested.options),
        tags={
            TRIGGER_TAG: trigger,
            IMAGES_TAG: images_tag(selection),
            **({COMMIT_TAG: main.commit} if main.commit else {}),
            **tags,
        },
    )
