"""The images that the code location has loaded, pinned for all its processes.

A run, and every step of it, has to see the assets that the code location saw when the run was started, also those of
images that only a pull request has, and also when the working tree or the pull requests have moved on. So what the
code location has seen travels to them as a state: Dagster hands it to the process of a run, and that process to the
server that its steps are forked from.

`StateBackedDefinitionsLoader` is not yet public in Dagster; nothing but this module knows it.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.definitions_load_context import StateBackedDefinitionsLoader
from pydantic import BaseModel, ConfigDict

from aml_images_dagster.builds.source import clean_commit
from aml_images_dagster.catalog import git
from aml_images_dagster.defs.pools import set_missing_limits
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.pull_requests.declaration import Declarations, DeclaredImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.settings import Settings

_STATE_VARIABLE = "AML_IMAGES_PINNED_CATALOG"
_LONGEST_VARIABLE = 100_000
"""In bytes; Linux takes 128 KiB. Without the variable steps start slower, no more."""


class PinnedCatalog(BaseModel):
    """The images that a code location has loaded.

    Attributes:
        commit: The commit that its images are read from; empty for a working tree with changes.
        declared: What open pull requests add.
        images: Those of which a run makes something, when nothing but that run is to be loaded; None loads everything.
    """

    model_config = ConfigDict(frozen=True)

    commit: str
    declared: tuple[DeclaredImage, ...] = ()
    images: tuple[str, ...] | None = None

    @classmethod
    def now(cls, settings: Settings) -> PinnedCatalog:
        """The current images.

        Raises:
            BadInput: The setting `source_commit` names no commit.
        """
        wanted = settings.source_commit
        commit = git.resolve(settings.repo, wanted) if wanted else clean_commit(settings.repo)
        return cls(commit=commit, declared=Declarations.read(backends_for(settings).artifacts.root).all())

    def pin_here(self) -> None:
        """Pass the state to this process and its children. If it is too long for that, they read it themselves."""
        state = self.model_dump_json()
        if len(state) < _LONGEST_VARIABLE:
            os.environ[_STATE_VARIABLE] = state


class PinnedDefinitions(StateBackedDefinitionsLoader[str]):
    """The definitions of a pinned catalog, made once per process.

    Args:
        settings: All settings.
        define: Makes the definitions of a catalog.
    """

    def __init__(self, settings: Settings, define: Callable[[PinnedCatalog], dg.Definitions]) -> None:
        self._settings = settings
        self._define = define
        self._made: dict[str, dg.Definitions] = {}

    @property
    def defs_key(self) -> str:
        """The name of the state; there is one."""
        return "pinned_catalog"

    def fetch_state(self) -> str:
        """The current state, when Dagster loads the code location. It also sets the limits of the pools."""
        if os.environ.get("DAGSTER_HOME"):  # else the instance is one that is thrown away
            with dg.DagsterInstance.get() as instance:
                set_missing_limits(instance, self._settings)
        return PinnedCatalog.now(self._settings).model_dump_json()

    def defs_from_state(self, state: str) -> dg.Definitions:
        """The definitions; Dagster asks in every process."""
        pinned = PinnedCatalog.model_validate_json(state)
        pinned.pin_here()
        if state not in self._made:
            definitions = self._define(pinned)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", dg.PreviewWarning)
                self._made[state] = definitions.with_reconstruction_metadata({self.defs_key: dg.serialize_value(state)})
        return self._made[state]

    def build_defs(self) -> dg.Definitions:
        """The definitions for Dagster, with the state that it passes to its processes."""
        return self.defs_from_state(self.get_or_fetch_state())

    def here(self) -> dg.Definitions:
        """The definitions for a process without state from Dagster: the state of its parent, else the current one."""
        return self.defs_from_state(os.environ.get(_STATE_VARIABLE) or self.fetch_state())
