"""Assets of the published sources and documentation: materializing them proposes them to the public repositories."""

from collections.abc import Callable, Iterator

import dagster as dg
from pydantic import Field

from aml_images_dagster.builds.session import Source
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs.keys import OPERATIONS_GROUP, PUBLIC_DOCS, PUBLIC_SOURCE
from aml_images_dagster.defs.run import Factory, explained, step_log
from aml_images_dagster.open_source.proposal import Proposal
from aml_images_dagster.open_source.publication import publish_source
from aml_images_dagster.open_source.syndication import publish_docs
from aml_images_dagster.settings.open_source import OpenSourceSettings
from aml_images_dagster.text import code_block


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
