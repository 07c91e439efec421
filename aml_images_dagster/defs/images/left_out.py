"""Steps of images that a build leaves out: they end well, say why, and materialize nothing."""

from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.defs.images.checks import without_result
from aml_images_dagster.defs.keys import image_of


def left_out(
    context: dg.AssetExecutionContext, session: BuildSession, key: dg.AssetKey
) -> Iterator[dg.MaterializeResult[None] | dg.Output[None]]:
    """The results of an asset that is not made: steps that follow it run, and its page stays as it is.

    A step without a result would be skipped, and with it the release files of all other images.
    """
    image, stage = image_of(key) or ("", "")
    if stage == "staged":
        context.log.warning(session.left_out[image])
    # Dagster makes no event of a result that is marked so.
    yield dg.MaterializeResult(asset_key=key, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})
    if stage in ("staged", "tested"):  # a step of its own
        yield from without_result(context)
