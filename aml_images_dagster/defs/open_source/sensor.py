"""The sensor that publishes sources and documentation of released images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.release_notes import with_notes
from aml_images_dagster.defs.keys import PUBLIC_DOCS, PUBLIC_SOURCE
from aml_images_dagster.defs.ticks import sensor_status, skips_while_unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.defs.run import Factory

SENSOR = "publish_after_release"
_DIRTY = "-dirty"


def publish_after_release_sensor(factory: Factory) -> list[dg.SensorDefinition]:
    """The sensor, where the setting `open_source.after_release` wants it and there is a repository to publish to."""
    wanted = factory.settings.open_source
    places = {PUBLIC_SOURCE: wanted.repository, PUBLIC_DOCS: wanted.docs_repository}
    published = [key for key, repository in places.items() if repository]
    if not wanted.after_release or not published:
        return []

    @dg.sensor(
        name=SENSOR,
        description="Publishes the sources of released images, and their tags after every change of production.",
        asset_selection=published,
        minimum_interval_seconds=30,
        default_status=sensor_status(factory.settings),
    )
    @skips_while_unreachable
    def publish_after_release(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        artifacts = factory.backends.artifacts
        records = Ledger(artifacts).records()
        if context.cursor is None:  # releases before the first tick are ignored
            last = records[-1].number if records else 0
            return dg.SensorResult(skip_reason="watching from now on", cursor=str(last))
        seen = int(context.cursor)
        new = with_notes((record for record in records if record.number > seen), artifacts)
        requests = [request for record in new if record.done for request in _requests(record, published)]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "no new releases",
            cursor=str(new[-1].number if new else seen),
        )

    return [publish_after_release]


def _requests(record: ReleaseRecord, published: Sequence[dg.AssetKey]) -> list[dg.RunRequest]:
    images = sorted({change.image for change in record.changes})
    # A commit with changes that were never committed can't be read again: what is loaded is next to it.
    commit = "" if record.commit.endswith(_DIRTY) else record.commit
    # After a rollback or a withdrawal the sources are what they were, and tags and release notes are others.
    sources: dict[str, object] = {"only_tags": True}
    if record.action == "release":
        sources = {"source_commit": commit, "images": images}
    options: dict[dg.AssetKey, dict[str, object]] = {PUBLIC_DOCS: {}, PUBLIC_SOURCE: sources}
    return [
        dg.RunRequest(
            run_key=f"{SENSOR} {record.number} {key.path[-1]}",
            asset_selection=[key],
            run_config={"ops": {key.to_python_identifier(): {"config": options[key]}}},
            tags={"aml-images/published-build": record.build},
        )
        for key in published
    ]
