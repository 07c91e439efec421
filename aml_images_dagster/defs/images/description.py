"""Descriptions of an image's assets in the UI: kinds, owners, links to its code, and metadata of a build."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import dagster as dg

from aml_images_dagster.builds.records import signer_in_words
from aml_images_dagster.builds.versions.difference_markdown import short_sections
from aml_images_dagster.builds.versions.image_difference import summary
from aml_images_dagster.catalog import git
from aml_images_dagster.defs.keys import asset_key
from aml_images_dagster.text import code, code_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.builds.records import EvidenceRecord, StagedImage, TestedImage
    from aml_images_dagster.builds.session import BuildSession, Source
    from aml_images_dagster.builds.versions.production_difference import ProductionDifference
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
        if source.url.startswith("https://") and not source.commit.endswith(git.DIRTY):
            reference = dg.UrlCodeReference(
                url=f"{source.url.removesuffix('.git')}/blob/{source.commit}/{path}", label=path
            )
        else:
            reference = dg.LocalFileCodeReference(file_path=str(source.tree.root / path), label=path)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def staged_metadata(session: BuildSession, record: StagedImage) -> dict[str, dg.MetadataValue]:
    """What the UI shows of a staged image."""
    metadata: dict[str, dg.MetadataValue] = {
        "reasons": dg.MetadataValue.md("\n".join(f"- {code(reason)}" for reason in record.reasons)),
        "because": dg.MetadataValue.md("\n".join(f"- {code(because)}" for because in record.because)),
        "reference": dg.MetadataValue.text(record.reference),
        "digest": dg.MetadataValue.text(record.digest),
        "manifest": dg.MetadataValue.url(f"{_staging_repository(session, record.image)}/manifests/{record.digest}"),
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


def evidence_metadata(evidence: EvidenceRecord | None, repository: str) -> dict[str, dg.MetadataValue]:
    """What the UI shows of what is attached to an image; nothing if nothing is.

    Args:
        evidence: What is attached.
        repository: URL of the repository that has the image, `https://HOST/v2/NAME`.
    """
    if evidence is None:
        return {}
    rows = [
        dg.TableRecord({"artifact": each.name or each.kind, "manifest": f"{repository}/manifests/{each.digest}"})
        for each in evidence.artifacts
    ]
    columns = [dg.TableColumn("artifact", "string"), dg.TableColumn("manifest", "string")]
    licences = [*evidence.licences.items(), *([("none", evidence.without_licence)] if evidence.without_licence else ())]
    metadata: dict[str, dg.MetadataValue] = {
        "packages": dg.MetadataValue.int(evidence.packages),
        "licences": dg.MetadataValue.md(", ".join(f"{code(name)} {count}" for name, count in licences)),
        "signed_by": dg.MetadataValue.text(signer_in_words(evidence.signed_by, is_test_key=evidence.is_test_key)),
        "evidence": dg.MetadataValue.table(rows, schema=dg.TableSchema(columns=columns)),
    }
    for shown, names in _EVIDENCE.items():
        found = [each for each in evidence.artifacts if each.name in names]
        if found:
            links = (f"[{each.name}]({repository}/blobs/{each.content})" for each in found)
            metadata[shown] = dg.MetadataValue.md(", ".join(links))
    if evidence.unread:
        metadata["not_read"] = dg.MetadataValue.md("\n".join(f"- {code(what)}" for what in evidence.unread))
    return metadata


_EVIDENCE = {
    "sbom": ("SPDX", "CycloneDX"),
    "licence_texts": ("licence texts",),
    "provenance": ("provenance",),
    "test_results": ("test results",),
}


def evidence_observation(session: BuildSession, image: str) -> Iterator[dg.AssetObservation]:
    """What to show on the page of a staged image once it has evidence: that is attached when it has passed."""
    evidence = session.folder.read_evidence(image)
    if evidence is not None:
        yield dg.AssetObservation(
            asset_key(image, "staged"),
            description="what is in it and where it comes from is attached and signed",
            metadata=evidence_metadata(evidence, _staging_repository(session, image)),
        )


def _staging_repository(session: BuildSession, image: str) -> str:
    return f"{session.backends.staging.url}/v2/{image.partition('/')[0]}"


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
        **evidence_metadata(session.folder.read_evidence(record.image), _staging_repository(session, record.image)),
        **({"not_tested_on": dg.MetadataValue.text(", ".join(record.untested))} if record.untested else {}),
    }


def change_observation(key: dg.AssetKey, found: ProductionDifference) -> dg.AssetObservation:
    """What a build of a pull request would change for users of an image; what may break them comes first."""
    metadata: dict[str, Any] = {}
    if found.difference is None:
        said = found.unknown if found.is_first else f"what changed is not known: {found.unknown}"
    else:
        said = summary(found.difference)
        metadata["what_changed"] = dg.MetadataValue.md("\n\n".join(short_sections(found.difference)))
    if found.may_break:
        metadata = {"may_break_users": ", ".join(found.may_break), **metadata}
        said = f"may break users: {', '.join(found.may_break)}; its release needs --accept-major"
    return dg.AssetObservation(key, description=said, metadata=metadata)
