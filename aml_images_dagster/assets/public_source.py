"""Publishing in the UI: what was last proposed to the public repositories."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from aml_images_dagster.assets.keys import OPERATIONS_GROUP, PUBLIC_DOCS, PUBLIC_SOURCE
from aml_images_dagster.assets.run import Workshop, explained, step_log
from aml_images_dagster.builds.source import open_source
from aml_images_dagster.open_source.proposal import Proposal
from aml_images_dagster.open_source.publication import publish_source
from aml_images_dagster.open_source.syndication import publish_docs

Published = Iterator[dg.MaterializeResult[None]]


class PublishOptions(dg.Config):
    """The launchpad block of a publication."""

    images: list[str] = Field(default=[], description="Images as FAMILY/IMAGE. Default: all.")
    source_commit: str = Field(default="", description="Publish from this commit. Default: as the images are loaded.")
    dry_run: bool = Field(default=False, description="Show the diff and what the leak check finds; push nothing.")


def publication_assets(workshop: Workshop) -> list[dg.AssetsDefinition]:
    """One for each repository that is configured; materializing it publishes."""
    wanted = workshop.settings.open_source

    @dg.asset(
        key=PUBLIC_SOURCE,
        group_name=OPERATIONS_GROUP,
        description="The public part of the image folders. Materialize to propose it to the public repository.",
        kinds={"git"},
        output_required=False,
    )
    def public_source(context: dg.AssetExecutionContext, config: PublishOptions) -> Published:
        with explained():
            source = workshop.source
            if config.source_commit:
                source = open_source(workshop.settings, config.source_commit)
            proposal = publish_source(
                source,
                workshop.parts,
                workshop.settings,
                step_log,
                images=[source.catalogue.get(image).id for image in config.images] or None,
                dry_run=config.dry_run,
            )
        yield from _shown(PUBLIC_SOURCE, proposal, context, config)

    @dg.asset(
        key=PUBLIC_DOCS,
        group_name=OPERATIONS_GROUP,
        description="What registry and Docker Hub show of released images. Materialize to propose it.",
        kinds={"git"},
        output_required=False,
    )
    def public_docs(context: dg.AssetExecutionContext, config: PublishOptions) -> Published:
        with explained():
            source = workshop.source
            if config.source_commit:
                source = open_source(workshop.settings, config.source_commit)
            proposal = publish_docs(
                source,
                workshop.parts,
                workshop.settings,
                images=[source.catalogue.get(image).id for image in config.images] or None,
                dry_run=config.dry_run,
            )
        yield from _shown(PUBLIC_DOCS, proposal, context, config)

    configured = ((public_source, wanted.repository), (public_docs, wanted.docs_repository))
    return [asset for asset, repository in configured if repository]


def _shown(
    key: dg.AssetKey, proposal: Proposal, context: dg.AssetExecutionContext, config: PublishOptions
) -> Published:
    """A materialization of what was proposed; of a dry run, which proposes nothing, an observation."""
    if config.dry_run:
        context.log_event(dg.AssetObservation(key, metadata=_metadata(proposal)))
    else:
        yield dg.MaterializeResult(metadata=_metadata(proposal))


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
        "diff": dg.MetadataValue.md(f"```diff\n{proposal.diff}\n```"),
    }
