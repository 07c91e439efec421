"""Descriptions of an image's assets in the UI: kinds, owners, links to its code, and metadata of a build."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import dagster as dg

from aml_images_dagster.text import code, code_block

if TYPE_CHECKING:
    from aml_images_dagster.builds.records import StagedImage, TestedImage
    from aml_images_dagster.builds.session import BuildSession, Source
    from aml_images_dagster.catalog.image import Image


def kinds(image: Image) -> set[str]:
    """Kinds shown as icons; Dagster allows three."""
    return {"docker", image.os}


def owners(image: Image) -> list[str]:
    """Owners as image.json names them."""
    return list(image.settings.owners)


def code_references(image: Image, source: Source) -> dict[str, Any]:
    """A link to the image's Dockerfile: on the web for a commit of a hosted repository, else on this disk."""
    path = image.dockerfile_path
    reference: dg.UrlCodeReference | dg.LocalFileCodeReference
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        if source.url.startswith("https://") and not source.commit.endswith("-dirty"):
            reference = dg.UrlCodeReference(
                url=f"{source.url.removesuffix('.git')}/blob/{source.commit}/{path}", label=path
            )
        else:
            reference = dg.LocalFileCodeReference(file_path=str(source.tree.root / path), label=path)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def staged_metadata(session: BuildSession, record: StagedImage) -> dict[str, dg.MetadataValue]:
    """What the UI shows of a staged image."""
    staging = session.backends.staging
    family = record.image.partition("/")[0]
    metadata: dict[str, dg.MetadataValue] = {
        "reasons": dg.MetadataValue.md("\n".join(f"- {code(reason)}" for reason in record.reasons)),
        "because": dg.MetadataValue.md("\n".join(f"- {code(because)}" for because in record.because)),
        "reference": dg.MetadataValue.text(record.reference),
        "digest": dg.MetadataValue.text(record.digest),
        "manifest": dg.MetadataValue.url(f"{staging.url}/v2/{family}/manifests/{record.digest}"),
        "size_mb": dg.MetadataValue.float(round(record.size_bytes / 1e6, 3)),
        "layers": dg.MetadataValue.int(record.layers),
        "reused": dg.MetadataValue.bool(record.reused(session.number)),
        "build": dg.MetadataValue.text(session.number),
        "commit": dg.MetadataValue.text(session.source.commit),
        "content_key": dg.MetadataValue.text(record.content_key.digest),
        "bases": dg.MetadataValue.json({base.reference: base.digest for base in record.bases}),
        "dockerfile": dg.MetadataValue.md(code_block(record.dockerfile.rstrip(), "dockerfile")),
    }
    if record.platforms:
        metadata["platforms"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "platform": each.platform,
                        "size_mb": round(each.size_bytes / 1e6, 3),
                        "layers": each.layers,
                        "digest": each.digest,
                    }
                )
                for each in record.platforms
            ],
            schema=dg.TableSchema(
                [
                    dg.TableColumn("platform", "string"),
                    dg.TableColumn("size_mb", "float"),
                    dg.TableColumn("layers", "int"),
                    dg.TableColumn("digest", "string"),
                ]
            ),
        )
    if record.reused(session.number):
        metadata["built_in"] = dg.MetadataValue.text(record.built_in)
    else:
        metadata["build_seconds"] = dg.MetadataValue.float(record.seconds)
    return metadata


def evidence_metadata(session: BuildSession, image: str) -> dict[str, dg.MetadataValue]:
    """What the UI shows of what is attached to an image; nothing if nothing is."""
    record = session.folder.read_evidence(image)
    if record is None:
        return {}
    blobs = f"{session.backends.staging.url}/v2/{image.partition('/')[0]}/manifests"
    rows = [dg.TableRecord({"artifact": each.kind, "manifest": f"{blobs}/{each.digest}"}) for each in record.artifacts]
    columns = [dg.TableColumn("artifact", "string"), dg.TableColumn("manifest", "string")]
    metadata: dict[str, dg.MetadataValue] = {
        "packages": dg.MetadataValue.int(record.packages),
        "without_licence": dg.MetadataValue.int(record.without_licence),
        "signed_by": dg.MetadataValue.text(record.signed_by),
        "evidence": dg.MetadataValue.table(rows, schema=dg.TableSchema(columns=columns)),
    }
    if record.unread:
        metadata["not_read"] = dg.MetadataValue.md("\n".join(f"- {code(what)}" for what in record.unread))
    return metadata


def tested_metadata(session: BuildSession, record: TestedImage) -> dict[str, dg.MetadataValue]:
    """What the UI shows of a tested image."""
    rows = [
        dg.TableRecord(
            {
                "scenario": r.scenario,
                "status": r.status,
                "seconds": r.seconds,
                "job": r.job,
                "tested_in": r.tested_in,
                "link": r.url,
                "sdk": r.sdk,
                "platform": r.platform,
            }
        )
        for r in record.scenarios
    ]
    columns = [
        dg.TableColumn("scenario", "string"),
        dg.TableColumn("status", "string"),
        dg.TableColumn("seconds", "float"),
        dg.TableColumn("job", "string"),
        dg.TableColumn("tested_in", "string"),
        dg.TableColumn("link", "string"),
        dg.TableColumn("sdk", "string"),
        dg.TableColumn("platform", "string"),
    ]
    return {
        "scenarios": dg.MetadataValue.table(rows, schema=dg.TableSchema(columns=columns)),
        "digest": dg.MetadataValue.text(record.digest),
        "test_seconds": dg.MetadataValue.float(sum((r.seconds for r in record.scenarios), 0.0)),
        "logs": dg.MetadataValue.path(str(session.folder.image(record.image) / "logs")),
        "build": dg.MetadataValue.text(session.number),
        **evidence_metadata(session, record.image),
        **({"not_tested_on": dg.MetadataValue.text(", ".join(record.untested))} if record.untested else {}),
    }
