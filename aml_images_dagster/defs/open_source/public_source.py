"""The published sources and documentation: assets that propose them to the public repositories, and their sensor."""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg
from pydantic import Field

from aml_images_dagster.builds.ledger import Ledger, ReleaseRecord
from aml_images_dagster.builds.session import Source
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.builds.versions.release_notes import with_notes
from aml_images_dagster.catalog import git
from aml_images_dagster.defs.keys import OPERATIONS_GROUP, PUBLIC_DOCS, PUBLIC_SOURCE
from aml_images_dagster.defs.run import Factory, explained, step_log
from aml_images_dagster.defs.ticks import sensor_status, skips_while_unreachable
from aml_images_dagster.open_source.proposal import Proposal
from aml_images_dagster.open_source.publication import publish_source
from aml_images_dagster.open_source.syndication import publish_docs
from aml_images_dagster.settings.open_source import OpenSourceSettings
from aml_images_dagster.text import code_block

SENSOR = "publish_after_release"


class PublishOptions(dg.Config):
    """The launchpad block of a publication."""

    images: list[str] = Field(default=[], description="Images as FAMILY/IMAGE. Default: all.")
    only_tags: bool = Field(
        default=False, description="Publish no sources: only the table of images and the release notes."
    )
    source_commit: str = Field(
        default="", description="Publish from this commit. Default: the one that the code location has loaded."
    )
    dry_run: bool = Field(default=False, description="Show the diff and what the leak check finds; push nothing.")


def publication_assets(settings: OpenSourceSettings) -> list[dg.AssetsDefinition]:
    """One for each repository that is configured; materializing it publishes."""

    def sources(factory: Factory, source: Source, config: PublishOptions, images: list[str] | None) -> Proposal:
        chosen = [] if config.only_tags else images
        return publish_source(
            source, factory.backends, factory.settings, step_log, images=chosen, dry_run=config.dry_run
        )

    def docs(factory: Factory, source: Source, config: PublishOptions, images: list[str] | None) -> Proposal:
        return publish_docs(source, factory.backends, factory.settings, images=images, dry_run=config.dry_run)

    assets = []
    if settings.repository:
        said = "The public part of the image folders. Materialize to propose it to the public repository."
        assets.append(_publication(PUBLIC_SOURCE, said, sources))
    if settings.docs_repository:
        said = "What registry and Docker Hub show of released images. Materialize to propose it."
        assets.append(_publication(PUBLIC_DOCS, said, docs))
    return assets


def _publication(
    key: dg.AssetKey,
    description: str,
    propose: Callable[[Factory, Source, PublishOptions, list[str] | None], Proposal],
) -> dg.AssetsDefinition:
    @dg.asset(key=key, group_name=OPERATIONS_GROUP, description=description, kinds={"git"}, output_required=False)
    def publication(
        context: dg.AssetExecutionContext, config: PublishOptions, factory: dg.ResourceParam[Factory]
    ) -> Iterator[dg.MaterializeResult[None]]:
        with explained():
            source = factory.source
            if config.source_commit:
                source = load_source(factory.settings, config.source_commit)
            images = [source.catalog.get(image).id for image in config.images]
            proposal = propose(factory, source, config, images or None)
        if config.dry_run:  # it proposes nothing
            context.log_event(dg.AssetObservation(key, metadata=_metadata(proposal)))
        else:
            yield dg.MaterializeResult(metadata=_metadata(proposal))

    return publication


def _metadata(proposal: Proposal) -> dict[str, dg.MetadataValue]:
    rows = [dg.TableRecord({"file": change.path, "change": change.status}) for change in proposal.changes]
    schema = dg.TableSchema([dg.TableColumn("file", "string"), dg.TableColumn("change", "string")])
    return {
        "outcome": dg.MetadataValue.text(proposal.outcome),
        "repository": dg.MetadataValue.text(proposal.repository),
        "branch": dg.MetadataValue.text(proposal.branch),
        "commit": dg.MetadataValue.text(proposal.commit),
        "pull_request": dg.MetadataValue.url(proposal.pull_request),
        "changes": dg.MetadataValue.table(rows, schema=schema),
        "diff": dg.MetadataValue.md(code_block(proposal.diff, "diff")),
    }


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
    commit = "" if record.commit.endswith(git.DIRTY) else record.commit
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
