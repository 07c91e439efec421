"""release.json, import.cfg and the drop: written once per build, and only when everything before has succeeded."""

from collections.abc import Iterator, Sequence

import dagster as dg

from aml_images_dagster.catalog.image import Image
from aml_images_dagster.defs.keys import DROP, IMPORT_CFG, RELEASE_GROUP, RELEASE_JSON, asset_key
from aml_images_dagster.defs.operations.cleanup import cleanup_hook
from aml_images_dagster.defs.release.launchpad import release_links
from aml_images_dagster.defs.request import BuildOptions
from aml_images_dagster.defs.run import Workshop
from aml_images_dagster.release.publication import publish
from aml_images_dagster.text import code


def release_files(images: Sequence[Image]) -> dg.AssetsDefinition:
    """The three outputs of a build. An image that is not part of the run is no concern of theirs."""
    configs = [asset_key(image.id, "release_config") for image in images]
    entries = [asset_key(image.id, "import_cfg") for image in images]

    @dg.multi_asset(
        name="release_files",
        specs=[
            dg.AssetSpec(
                RELEASE_JSON,
                deps=configs,
                description="What the build made: images, digests, reasons, bases and tests.",
                kinds={"json"},
            ),
            dg.AssetSpec(
                IMPORT_CFG,
                deps=entries,
                description="What production imports from staging, and under which names.",
                kinds={"json"},
            ),
            dg.AssetSpec(
                DROP,
                deps=[RELEASE_JSON, IMPORT_CFG],
                description="The folder for the release system: import.cfg, release.json, checksums, ServiceGroupRoot.",
                kinds={"file"},
            ),
        ],
        group_name=RELEASE_GROUP,
        hooks={cleanup_hook},
    )
    def files(
        context: dg.AssetExecutionContext, build_options: BuildOptions, workshop: dg.ResourceParam[Workshop]
    ) -> Iterator[dg.MaterializeResult[None]]:
        with workshop.step(context, build_options) as session:
            publication = publish(session)
            shared = {
                "build": dg.MetadataValue.text(session.number),
                "release_tag": dg.MetadataValue.text(session.release_tag),
                "images": dg.MetadataValue.int(len(publication.release.images)),
            }
            documents = {
                RELEASE_JSON: dg.MetadataValue.json(publication.release.model_dump(mode="json")),
                IMPORT_CFG: dg.MetadataValue.json(publication.cfg.model_dump(mode="json", by_alias=True)),
                DROP: dg.MetadataValue.md("\n".join(f"- {code(path)}" for path in publication.drop)),
            }
            for key, document in documents.items():
                yield dg.MaterializeResult(
                    asset_key=key,
                    metadata={
                        "content": document,
                        "path": dg.MetadataValue.path(str(session.folder.root / key.path[-1])),
                        **shared,
                        **({"release": release_links(session.number)} if key == RELEASE_JSON else {}),
                    },
                )

    return files
