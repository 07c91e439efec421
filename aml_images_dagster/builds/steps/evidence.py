"""Evidence of an image that has passed, attached and signed: what is in it, where it comes from, which tests passed.

It is attached in one step, after the tests and before anything else knows that the image has passed. What is about to
be attached is recorded first, so that the cleanup of a build that ends in between finds it (housekeeping/cleanup.py).
The image of a pull request gets none: nothing that a stranger may have made is signed.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from threading import Thread
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.records import AttachedArtifact, EvidenceRecord, on_platform
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.trust.certificates import name_of
from aml_images_dagster.trust.dsse import PREDICATE_ANNOTATION
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from aml_images_dagster.trust.notary import ARTIFACT_TYPE
from aml_images_dagster.trust.referrers import Artifact, Descriptor, push, settle
from aml_images_dagster.trust.sbom import LICENCE_TEXTS, MEDIA_TYPES, licence_texts, sbom
from aml_images_dagster.trust.signing import EvidenceSigner, descriptor_of
from aml_images_dagster.trust.statements import (
    PROVENANCE,
    TEST_RESULT,
    Dependency,
    ImageBuild,
    TestRun,
    provenance,
    results_of_tests,
)
from aml_images_dagster.trust.verification import SBOM_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aml_images_dagster.builds.records import BuildRecord, StagedImage, TestedImage
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.trust.inventory import Inventory

_ATTEMPTS = 3
_MOST_COMMON = 10
"""Licences that the record of an image names; the SBOM has all."""


@dataclass(frozen=True, slots=True)
class _Documents:
    """What is in one image of a staged image.

    Attributes:
        image: The image, by digest.
        inventory: What is in it.
        documents: Its SBOMs and the texts of its licences, to be attached to it.
    """

    image: Reference
    inventory: Inventory
    documents: tuple[Artifact, ...]


class Evidence:
    """The evidence of one staged image, whose documents are made while its tests run.

    Args:
        session: The build.
        staged: The image.
        known: What is attached to it already, as far as an earlier build has recorded it.
    """

    def __init__(self, session: BuildSession, staged: StagedImage, known: EvidenceRecord | None) -> None:
        self._session = session
        self._staged = staged
        # A build may push an image that there was before, after that was deleted, or to another registry: a record of
        # what is attached says nothing of it.
        is_reused = known is not None and known.digest == staged.digest and staged.reused(session.number)
        self._known = known if is_reused else None
        self._documents: Future[list[_Documents]] | None = None
        if is_attached_by(session) and self._known is None:
            self._documents = _beside(self._read_documents)

    def attach(self, tested: TestedImage, log: Callable[[str], None]) -> EvidenceRecord | None:
        """Attach it, unless it is there, and write `evidence.json`; None if the build attaches nothing.

        Args:
            tested: The tests that the image has passed.
            log: Receives a line.

        Raises:
            BadInput: What signs is not configured, or the image was deleted.
            Unreachable: Staging, or the service that signs, does not answer or refuses.
        """
        record = self._known
        if self._documents is not None:
            record = self._attach(self._documents.result(), tested)
            log(f"attached {', '.join(sorted({each.name for each in record.artifacts}))}")
            log(f"signed by {record.signed_by}")
        if record is not None:
            self._session.folder.write_evidence(record)
        return record

    @property
    def _image(self) -> Reference:
        family = self._staged.image.partition("/")[0]
        return Reference(self._session.backends.staging.host, family, digest=self._staged.digest)

    def _read_documents(self) -> list[_Documents]:
        staging = self._session.backends.staging
        records = LayerRecords(self._session.settings.layer_records)
        contents = self._session.image(self._staged.image).settings.contains
        digests = [each.digest for each in self._staged.platforms] or [self._staged.digest]
        documents = []
        for image in map(self._image.with_digest, digests):
            inventory = read_inventory(staging, image, records, contents, with_texts=True)
            sboms = (Artifact(kind, sbom(inventory, self._staged.image, form)) for form, kind in MEDIA_TYPES.items())
            texts = licence_texts(inventory, self._staged.image)
            documents.append(_Documents(image, inventory, (*sboms, *([texts] if texts else []))))
        return documents

    def _attach(self, documents: list[_Documents], tested: TestedImage) -> EvidenceRecord:
        session, staging = self._session, self._session.backends.staging
        signer = EvidenceSigner.of(session.settings)
        statements = [self._provenance(), *([scenario_results_of(tested)] if tested.scenarios else [])]
        artifacts: list[AttachedArtifact] = []
        to_attach: list[tuple[Reference, list[Artifact]]] = []
        # The images of an index first: who finds the evidence of the index finds that of its images, too.
        for of in documents if self._staged.platforms else ():
            descriptor = Descriptor.of(staging.existing(of.image))
            to_attach.append((of.image, signer.evidence(descriptor, of.documents, ())))
        whole = Descriptor.of(staging.existing(self._image))
        own = () if self._staged.platforms else documents[0].documents
        to_attach.append((self._image, signer.evidence(whole, own, statements)))
        for image, all_of_it in to_attach:
            artifacts += _as_attached(all_of_it, Descriptor.of(staging.existing(image)))
        for each in artifacts:
            session.folder.write_untagged(self._staged.image, each.digest)
        self._attach_all(to_attach, [self._image.with_digest(each.digest) for each in artifacts])
        first = documents[0].inventory
        return EvidenceRecord(
            image=self._staged.image,
            digest=self._staged.digest,
            artifacts=tuple(artifacts),
            signed_by=name_of(signer.signer.chain[0]),
            is_test_key=signer.signer.is_test,
            packages=len(first.packages),
            without_licence=sum(not package.licence for package in first.packages),
            licences=_most_common_licences(first),
            unread=first.unread,
            attached_in=session.number,
        )

    def _attach_all(self, to_attach: list[tuple[Reference, list[Artifact]]], pushed: list[Reference]) -> None:
        """Attach, again if the cleanup of another build with the same bytes has deleted what no list had yet."""
        session, staging = self._session, self._session.backends.staging
        for _ in range(_ATTEMPTS):
            session.begin()  # a build that has ended meanwhile was cleaned up, and gets nothing more
            lists = dict(chain.from_iterable(push(staging, *each).items() for each in to_attach))
            try:
                settle(staging, self._image.repository, lists)
            except Unreachable:  # registries refuse lists of what was deleted
                if session.keeps(pushed):
                    raise
            else:
                if session.keeps(pushed):
                    return
        raise Unreachable(
            "the registry does not keep what is attached",
            where=str(self._image),
            hint="Something deletes what no tag names: let it leave what is attached to an image.",
        )

    def _provenance(self) -> dict[str, Any]:
        session, staged = self._session, self._staged
        record = session.backends.artifacts.build(staged.built_in).read_build() or session.folder.read_build()
        if record is None:
            raise BadInput("the build has no record", where=session.number, hint="Start a new build.")
        named = session.source.catalog.published.resolve
        parents = {base.reference: parent for base in staged.bases if (parent := named(base.reference))}
        return provenance_of(record, staged, session.settings.trust.builder_id, parents)


def is_attached_by(session: BuildSession) -> bool:
    """Whether a build attaches evidence to what has passed in it."""
    return session.settings.trust.attach and not session.pull_request


def _beside(work: Callable[[], list[_Documents]]) -> Future[list[_Documents]]:
    """Work that goes on while tests run; when these fail nothing waits for it."""
    future: Future[list[_Documents]] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    Thread(target=run, name="inventory", daemon=True).start()
    return future


def _as_attached(artifacts: list[Artifact], subject: Descriptor) -> Iterator[AttachedArtifact]:
    for artifact in artifacts:
        descriptor = descriptor_of(artifact, subject)
        yield AttachedArtifact(
            kind=artifact.artifact_type,
            digest=descriptor.digest,
            subject=subject.digest,
            name=_NAMES[artifact.annotations.get(PREDICATE_ANNOTATION, artifact.artifact_type)],
            content=artifact.content_digest,
        )
        yield from _as_attached([*artifact.attached], descriptor)


_NAMES = {
    **SBOM_TYPES,
    LICENCE_TEXTS: "licence texts",
    PROVENANCE: "provenance",
    TEST_RESULT: "test results",
    ARTIFACT_TYPE: "signature",
}


def _most_common_licences(inventory: Inventory) -> dict[str, int]:
    licences = Counter(sorted(package.licence for package in inventory.packages if package.licence))
    return dict(licences.most_common(_MOST_COMMON))


def provenance_of(
    record: BuildRecord, staged: StagedImage, builder_id: str, parents: Mapping[str, str]
) -> dict[str, Any]:
    """The provenance of an image that this build has built.

    The same records give the same statement, so attaching it again attaches nothing new.

    Args:
        record: The build.
        staged: The image.
        builder_id: URI of the factory.
        parents: Each base that is an image of our own, as the Dockerfile names it → `<family>/<name>`.
    """
    key = staged.content_key
    return provenance(
        ImageBuild(
            image=staged.image,
            digest=staged.digest,
            platform=key.platform,
            source=record.source,
            commit=record.commit,
            content_key=key.digest,
            dockerfile=key.dockerfile,
            build_args=key.build_args,
            target=key.target,
            dependencies=tuple(
                Dependency(base.reference, base.digest, parents.get(base.reference, "")) for base in staged.bases
            ),
            reasons=tuple(dict.fromkeys((*staged.reasons, *staged.because))),
            build=record.build,
            run=record.run_id,
            trigger=record.started_by,
            release_tag=record.release_tag,
            builder_id=builder_id,
            version=version("aml-images-dagster"),
            started=record.created,
        )
    )


def scenario_results_of(tested: TestedImage) -> dict[str, Any]:
    """The scenarios that an image has passed."""
    runs = tuple(
        TestRun(
            scenario=on_platform(scenario.scenario, scenario.platform),
            passed=scenario.status == "passed",
            where=scenario.sdk,
            url=scenario.url,
            tested_in=scenario.tested_in,
        )
        for scenario in tested.scenarios
    )
    return results_of_tests(tested.image, tested.digest, runs)
