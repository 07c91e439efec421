"""The main branch: what builds that nobody asked for are made of, whatever the working tree holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.assets.chain import images_with_assets
from aml_images_dagster.builds.source import open_source
from aml_images_dagster.catalog import git
from aml_images_dagster.errors import BadInput
from aml_images_dagster.pull_requests.remote import TARGET_REF, GitRemote
from aml_images_dagster.settings.pull_requests import DEFAULT_REMOTE

if TYPE_CHECKING:
    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.builds.session import Source


@dataclass(frozen=True, slots=True)
class MainImages:
    """The images of the main branch.

    Attributes:
        source: Where their files are.
        commit: Its commit; empty outside of git.
        loaded: Those that the code location has assets for. Others came to the branch since it was loaded.
    """

    source: Source
    commit: str
    loaded: frozenset[str]


class MainBranch:
    """The main branch: the remote's, fetched within limits; without a remote that of the clone.

    It is read anew when it has moved.

    Args:
        workshop: Names the repository, and the images that the code location has loaded.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._with_assets = frozenset(image.id for image in images_with_assets(workshop.source.catalogue))
        self._read: MainImages | None = None

    def images(self) -> MainImages:
        """Its images now; outside of git those of the code location.

        Raises:
            BadInput: There is no such branch, or it has no folder of images.
            Unreachable: The remote does not answer.
        """
        settings = self._workshop.settings
        if not git.is_repository(settings.repo):
            return MainImages(self._workshop.source, "", self._with_assets)
        if self._has_remote():
            return self._at(GitRemote(settings.repo, settings.pull_requests).update_target())
        return self._at(git.resolve(settings.repo, git.main_branch(settings.repo)))

    def known_images(self) -> MainImages:
        """Its images as they were fetched last, for a build that is better old than not at all.

        Raises:
            BadInput: It was never fetched.
        """
        repo = self._workshop.settings.repo
        try:
            return self._at(git.resolve(repo, TARGET_REF))
        except BadInput:
            return self._at(git.resolve(repo, git.main_branch(repo)))

    def _has_remote(self) -> bool:
        settings = self._workshop.settings
        return settings.pull_requests.remote != DEFAULT_REMOTE or bool(git.origin_url(settings.repo))

    def _at(self, commit: str) -> MainImages:
        if self._read is None or self._read.commit != commit:
            source = open_source(self._workshop.settings, commit)
            buildable = {image.id for image in images_with_assets(source.catalogue)}
            self._read = MainImages(source, commit, self._with_assets & buildable)
        return self._read
