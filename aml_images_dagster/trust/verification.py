"""Whether an image has the evidence that it must have: a signature, provenance and an SBOM, all of this very image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.oci import read_manifest
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.text import counted
from aml_images_dagster.trust.certificates import Refused
from aml_images_dagster.trust.dsse import BUNDLE, PREDICATE_ANNOTATION, verify_statement
from aml_images_dagster.trust.notary import ARTIFACT_TYPE, ENVELOPE, verify
from aml_images_dagster.trust.referrers import Descriptor, content_of, listed
from aml_images_dagster.trust.sbom import MEDIA_TYPES
from aml_images_dagster.trust.statements import PROVENANCE, TEST_RESULT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Manifest, Registry
    from aml_images_dagster.trust.certificates import PublicKey
    from aml_images_dagster.trust.notary import Signed, Trust
    from aml_images_dagster.trust.referrers import Attached

SIGNATURE, SBOM = "signature", "sbom"
SBOM_TYPES = {MEDIA_TYPES["spdx"]: "SPDX", MEDIA_TYPES["cyclonedx"]: "CycloneDX"}

_MOST = 50
"""Artifacts of one kind that are looked at; anybody who may push can attach more."""


@dataclass(frozen=True, slots=True)
class EvidenceCheck:
    """One kind of evidence.

    Attributes:
        name: Which kind.
        ok: Whether the image has it, and it is valid.
        found: What it says, or what is wrong.
        required: Whether the image must have it.
        artifacts: Digests of the artifacts that are valid.
    """

    name: str
    ok: bool
    found: str
    required: bool
    artifacts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found out about an image.

    Attributes:
        image: The image, by digest.
        checks: All kinds of evidence.
        signatures: What its valid signatures say.
    """

    image: Reference
    checks: tuple[EvidenceCheck, ...]
    signatures: tuple[Signed, ...]

    @property
    def ok(self) -> bool:
        """Whether the image has all that it must have."""
        return not self.failed

    @property
    def failed(self) -> tuple[EvidenceCheck, ...]:
        """What it must have, and does not have or is not valid."""
        return tuple(check for check in self.checks if check.required and not check.ok)

    def require(self) -> None:
        """Refuse an image that does not have all that it must have.

        Raises:
            Refused: With one message that says what is missing or wrong.
        """
        if self.failed:
            raise Refused(
                "; ".join(f"{check.name}: {check.found}" for check in self.failed),
                where=str(self.image),
                hint="Do not use this image. A build with --force makes it and its evidence again; see docs/trust.md.",
            )


def verify_image(
    registry: Registry, image: Reference, trust: Trust, required: Collection[str], now: datetime
) -> Verification:
    """Look at the evidence of an image.

    Args:
        registry: Where the image is.
        image: The image; a tag stands for the digest behind it.
        trust: Whose signatures count.
        required: What it must have: `signature`, `provenance`, `sbom`.
        now: The time.

    Raises:
        BadInput: There is no such image.
        Unreachable: The registry does not answer, refuses, or its bytes do not match their digest.
    """
    manifest = registry.existing(image)
    image, target = image.with_digest(manifest.digest), Descriptor.of(manifest)
    attached = listed(registry, image)
    look = _Look(registry, image.repository, trust, now)

    signed, signatures = look.signatures(target, attached)
    keys = [signature.key for signature in signatures]
    checks = (
        signed.check(SIGNATURE, required),
        look.statements(PROVENANCE, attached, keys, target).check("provenance", required),
        _sbom_check(look, image, manifest, attached, required),
        look.statements(TEST_RESULT, attached, keys, target).check("test results", required),
    )
    return Verification(image, checks, tuple(signatures))


class _Found:
    """The artifacts of one kind that are valid, what they say, and what is wrong with the others."""

    def __init__(self, nothing: str = "none") -> None:
        self.valid: tuple[str, ...] = ()
        self._nothing = nothing
        self._said: list[str] = []
        self._problems: list[str] = []

    def look(self, attached: Attached, examine: Callable[[Attached], str]) -> None:
        try:
            said = examine(attached)
        except (Refused, BadInput) as error:
            self._problems.append(error.what)
        else:
            self._said.append(said)
            self.valid += (attached.digest,)

    @property
    def text(self) -> str:
        return "; ".join(dict.fromkeys(self._said or self._problems)) or self._nothing

    def check(self, name: str, required: Collection[str]) -> EvidenceCheck:
        return EvidenceCheck(name, bool(self.valid), self.text, name in required, self.valid)


class _Look:
    def __init__(self, registry: Registry, repository: str, trust: Trust, now: datetime) -> None:
        self.registry = registry
        self._repository = repository
        self._trust = trust
        self._now = now

    def signatures(self, target: Descriptor, attached: Sequence[Attached]) -> tuple[_Found, list[Signed]]:
        """The signatures of something."""
        found, signed = _Found("not signed"), []

        def examine(signature: Attached) -> str:
            media_type, envelope = content_of(self.registry, self._repository, signature)
            if media_type != ENVELOPE:
                raise Refused(f"signed in an envelope that is not read here ({media_type})")
            signed.append(verify(envelope, target, self._trust, self._now))
            return _said(signed[-1])

        for each in _of_type(attached, ARTIFACT_TYPE):
            found.look(each, examine)
        return found, signed

    def statements(
        self, predicate_type: str, attached: Sequence[Attached], keys: Sequence[PublicKey], target: Descriptor
    ) -> _Found:
        """The signed statements that say one thing of an image."""
        found = _Found()

        def examine(bundle: Attached) -> str:
            if not keys:
                raise Refused("there is no valid signature whose key could vouch for it")
            _, content = content_of(self.registry, self._repository, bundle)
            statement = verify_statement(content, keys, target.digest, predicate_type)
            return _summary(statement)

        for each in _of_type(attached, BUNDLE):
            if each.annotations.get(PREDICATE_ANNOTATION, predicate_type) == predicate_type:
                found.look(each, examine)
        return found

    def sboms(self, of: Reference, attached: Sequence[Attached]) -> _Found:
        """The SBOMs of an image, each with a signature of its own: anybody who may push can attach one."""
        found = _Found()

        def examine(sbom: Attached) -> str:
            content_of(self.registry, self._repository, sbom)
            signatures, signed = self.signatures(sbom.descriptor, listed(self.registry, of.with_digest(sbom.digest)))
            if not signed:
                raise Refused(f"{SBOM_TYPES[sbom.artifact_type]}: {signatures.text}")
            return SBOM_TYPES[sbom.artifact_type]

        for each in _of_type(attached, *SBOM_TYPES):
            found.look(each, examine)
        return found


def _sbom_check(
    look: _Look, image: Reference, manifest: Manifest, attached: Sequence[Attached], required: Collection[str]
) -> EvidenceCheck:
    """An index of several platforms has an SBOM for each of its images, or one for all."""
    found = look.sboms(image, attached)
    if found.valid or "manifests" not in read_manifest(manifest):
        return found.check(SBOM, required)
    each = {name: look.sboms(of, listed(look.registry, of)) for name, of in images_of(look.registry, image).items()}
    return EvidenceCheck(
        SBOM,
        bool(each) and all(of.valid for of in each.values()),
        "; ".join(f"{name}: {of.text}" for name, of in each.items()),
        SBOM in required,
        tuple(digest for of in each.values() for digest in of.valid),
    )


def _of_type(attached: Sequence[Attached], *types: str) -> list[Attached]:
    return [each for each in attached if each.artifact_type in types][:_MOST]


def _said(signed: Signed) -> str:
    when = f"{signed.signed:%Y-%m-%d %H:%M}{', by a timestamp service' if signed.is_timestamped else ''}"
    return f"by {signed.by} ({when})"


def _summary(statement: dict[str, object]) -> str:
    """What a statement says, in a few words."""
    predicate = statement.get("predicate")
    if not isinstance(predicate, dict):
        raise Refused("it says nothing")
    if statement.get("predicateType") == TEST_RESULT:
        passed = predicate.get("passedTests")
        return f"{predicate.get('result')}, {counted(len(passed) if isinstance(passed, list) else 0, 'scenario')}"
    details = predicate.get("runDetails")
    details = details if isinstance(details, dict) else {}
    metadata, builder = details.get("metadata"), details.get("builder")
    build = metadata.get("invocationId") if isinstance(metadata, dict) else ""
    return f"build {build} of {builder.get('id') if isinstance(builder, dict) else ''}"
