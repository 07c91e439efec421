"""Images that pull requests add: declared, so that Dagster learns of them when the code location loads again."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from aml_images_dagster.automation.reload import reload_code_location
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.pull_requests.declaration import Declarations

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.pull_requests.declaration import DeclaredImage
    from aml_images_dagster.pull_requests.tracking import Tracking

_RELOADS = 5
_NEVER_LOADED = (
    "Dagster does not take up its images: a name is that of another image but for its punctuation, "
    "images are built FROM each other, or the code location cannot be loaded again"
)


class NewImages:
    """What open pull requests have declared, and whether it is loaded.

    Args:
        workshop: Settings and the artifacts store.
        known: The images that Dagster knows, each with its parents.
        location: Name of the code location.
    """

    def __init__(self, workshop: Workshop, known: Mapping[str, tuple[str, ...]], location: str) -> None:
        self._known = known
        self._location = location
        self._root = workshop.parts.artifacts.root
        self._ui_url = workshop.settings.pull_requests.ui_url

    def declare(self, number: int, images: tuple[DeclaredImage, ...]) -> None:
        """Write down what a pull request adds, in place of what it did."""
        self._write({**self._declared.images, number: images})

    def keep_only(self, numbers: Collection[int]) -> None:
        """Forget what others than these have declared."""
        self._write({number: images for number, images in self._declared.images.items() if number in numbers})

    def are_loaded(self, number: int) -> bool:
        """Whether Dagster knows all that a pull request has declared."""
        known = self._known
        return all(
            image.id in known and set(image.parents) & set(known) <= set(known[image.id])
            for image in self._declared.images.get(number, ())
        )

    def reload(self, tracking: Tracking, now: float) -> str:
        """Have the code location loaded again when a pull request waits for it, some times for each; what came of it.

        One that waits for the first time is not made to wait for those that have waited in vain.
        """
        waiting = [
            tracked
            for number, tracked in tracking.pull_requests.items()
            if tracked.phase == "reload" and not self.are_loaded(number)
        ]
        for tracked in waiting:
            if tracked.reloads >= _RELOADS:
                tracked.phase, tracked.note = "invalid", _NEVER_LOADED
        waiting = [tracked for tracked in waiting if tracked.phase == "reload"]
        if not waiting:
            tracking.reload.succeeded()
            return ""
        if tracking.reload.until > now and all(tracked.reloads for tracked in waiting):
            return ""
        tracking.reload.failed(now)
        for tracked in waiting:
            tracked.reloads += 1
        try:
            reload_code_location(self._ui_url, self._location)
        except Unreachable as fault:
            return str(fault)
        return "the code location is loaded again"

    @cached_property
    def _declared(self) -> Declarations:
        return Declarations.read(self._root)

    def _write(self, images: dict[int, tuple[DeclaredImage, ...]]) -> None:
        if images != self._declared.images:
            self._declared = Declarations(images=images)
            self._declared.write(self._root)
