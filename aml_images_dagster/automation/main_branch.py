"""The main branch: what builds that nobody asked for are made of, whatever the working tree holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.assets.chain import images_with_assets
from aml_images_dagster.build.source import open_source
from aml_images_dagster.catalog import git

if TYPE_CHECKING:
    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.build.session import Source


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
    """The main branch of a repository, as its clone knows it. It is read anew when it has moved.

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
            BadInput: There is no branch main or master, or it has no folder of images.
        """
        settings = self._workshop.settings
        if not git.is_repository(settings.repo):
            return MainImages(self._workshop.source, "", self._with_assets)
        commit = git.resolve(settings.repo, git.main_branch(settings.repo))
        if self._read is None or self._read.commit != commit:
            source = open_source(settings, commit)
            buildable = {image.id for image in images_with_assets(source.catalogue)}
            self._read = MainImages(source, commit, self._with_assets & buildable)
        return self._read
