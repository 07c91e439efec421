"""The release files of a build, all of them or none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.errors import BuildFailed, BuildStopped
from aml_images_dagster.release.drop import drop_files, release_bytes, write_drop
from aml_images_dagster.release.import_cfg import ImportCfg, import_cfg
from aml_images_dagster.release.release_json import ReleaseJson, release_image, release_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.builds.session import BuildSession

_AT_ONCE = 8
"""Images for which staging is asked at once."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published.

    Attributes:
        release: release.json.
        cfg: import.cfg.
        drop: Every file of the drop by path.
    """

    release: ReleaseJson
    cfg: ImportCfg
    drop: Mapping[str, bytes]


def publish(session: BuildSession) -> Publication:
    """Write drop, import.cfg and release.json, in this order: a build with a release.json is complete.

    Raises:
        BuildFailed: An image is missing, staging serves something other than what was tested, or the build is being
            cleaned up.
    """
    session.begin()
    if session.pull_request:
        raise BuildFailed(
            f"the build is for pull request {session.pull_request}, which is never released",
            hint="Merge it, and build what it has changed from the main branch.",
        )
    if not session.images:
        raise BuildFailed("there is no image in this build", hint="Select the chains of the images to release.")
    session.backends.import_sdks()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        images = list(pool.map(partial(release_image, session), sorted(session.images)))
    release = release_json(session, images)
    cfg = import_cfg(release.images)
    drop = drop_files(release, cfg)
    folder = session.folder
    folder.write_run_information()
    write_drop(folder.root / "drop", drop)
    write_atomically(folder.root / "import.cfg", cfg.to_json())
    write_atomically(folder.root / "release.json", release_bytes(release))
    folder.finish("succeeded")
    try:
        session.begin()
    except BuildStopped:  # it was cleaned up meanwhile, perhaps before these files were there to be removed
        folder.remove_release_files()
        raise
    return Publication(release, cfg, drop)
