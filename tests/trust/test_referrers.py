"""What is attached to images in real registries, with the referrers API and without."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.registry import oci
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import OCI_INDEX, OciRegistry, referrers_tag, subject_of_tag
from aml_images_dagster.trust import referrers
from aml_images_dagster.trust.referrers import Artifact
from tests.emulators.faulty_registry import Fault, FaultyRegistry
from tests.emulators.referrers_registry import ReferrersRegistry

pytestmark = pytest.mark.engine

SPDX = "application/spdx+json"
SBOM = Artifact(SPDX, b'{"spdxVersion": "SPDX-2.3"}', annotations={"b": "2", "a": "1"})
SIGNED_SBOM = replace(
    SBOM, attached=(Artifact("application/vnd.cncf.notary.signature", b"{}", "application/jose+json"),)
)


def notes(count: int) -> list[Artifact]:
    return [Artifact("application/vnd.example.note", f"note {number}".encode()) for number in range(count)]


def named(attached) -> set[str]:
    return {each.digest for each in attached}


def test_what_is_attached_is_listed_with_its_type_and_annotations(real_registry, image):
    digests = referrers.attach(real_registry, image, [SBOM, *notes(1)])
    found = {each.digest: each for each in referrers.listed(real_registry, image)}
    assert set(found) == set(digests)
    sbom = found[digests[0]]
    assert sbom.artifact_type == SPDX
    assert sbom.annotations == SBOM.annotations
    assert sbom.subject == image.digest
    assert referrers.content_of(real_registry, image.repository, sbom) == (SPDX, SBOM.content)


def test_nothing_is_attached_to_a_new_image(real_registry, image):
    assert referrers.listed(real_registry, image) == []
    assert list(referrers.walk(real_registry, image)) == []


def test_the_same_artifact_twice_is_one(real_registry, image):
    first = referrers.attach(real_registry, image, [SBOM])
    assert referrers.attach(real_registry, image, [SBOM]) == first
    assert len(referrers.listed(real_registry, image)) == 1


def test_what_is_attached_to_an_artifact_comes_after_it(real_registry, image):
    (sbom,) = referrers.attach(real_registry, image, [SIGNED_SBOM])
    walked = list(referrers.walk(real_registry, image))
    assert [each.subject for each in walked] == [image.digest, sbom]
    assert [each.artifact_type for each in walked] == [SPDX, "application/vnd.cncf.notary.signature"]


def test_everything_of_an_image_takes_one_write_of_the_index(staging, pushed, repository):
    with FaultyRegistry(staging.host) as front:
        real_registry = OciRegistry(front.host)
        referrers.attach(real_registry, pushed, notes(5))
        assert len(front.requests("PUT", f"/manifests/{referrers_tag(pushed.digest)}")) == 1
    referrers.delete(staging, pushed)


def test_a_registry_that_keeps_no_lists_is_asked_for_one_once(staging, pushed, repository):
    with FaultyRegistry(staging.host) as front:
        referrers.attach(OciRegistry(front.host), pushed, [SIGNED_SBOM, *notes(2)])
        assert len(front.requests("GET", "/referrers/")) == 1
    referrers.delete(staging, pushed)


def test_artifacts_are_pushed_side_by_side_and_each_before_its_signature(real_registry, image, monkeypatch):
    both, order, put = threading.Barrier(2), [], real_registry.put_manifest

    def put_beside_another(repository, version, manifest):
        if json.loads(manifest.body)["subject"]["digest"] == image.digest:
            both.wait(timeout=60)
        put(repository, version, manifest)
        order.append(version)

    monkeypatch.setattr(real_registry, "put_manifest", put_beside_another)
    sbom, note = referrers.attach(real_registry, image, [SIGNED_SBOM, *notes(1)])
    (signature,) = named(referrers.listed(real_registry, image.with_digest(sbom)))
    assert set(order) == {sbom, note, signature}
    assert order.index(sbom) < order.index(signature)


def test_there_is_nothing_to_attach_to_an_image_that_is_gone(real_registry, image):
    with pytest.raises(BadInput, match="no such image"):
        referrers.attach(real_registry, image.with_digest(f"sha256:{'0' * 64}"), [SBOM])


def test_tags_of_images_are_listed_without_those_of_indexes(staging, pushed):
    referrers.attach(staging, pushed, [SIGNED_SBOM])
    assert staging.tags(pushed.repository) == ["1"]
    subjects = {subject_of_tag(tag) for tag in staging.referrers_tags(pushed.repository)}
    assert subjects == {pushed.digest, referrers.listed(staging, pushed)[0].digest}
    referrers.delete(staging, pushed)
    assert staging.referrers_tags(pushed.repository) == []


@pytest.mark.parametrize(
    "tag", ["sha256-1", "sha512-" + "a" * 64, "sha256-" + "A" * 64, "v1", "sha256-" + "a" * 64 + ".sig"]
)
def test_other_tags_are_tags_of_images(tag):
    assert subject_of_tag(tag) == ""


def test_an_image_is_deleted_with_everything(real_registry, image, staging):
    digests = referrers.attach(real_registry, image, [SIGNED_SBOM, *notes(2)])
    walked = named(referrers.walk(real_registry, image))
    assert walked >= set(digests)
    assert set(referrers.delete(real_registry, image)) == {*walked, image.digest}
    for digest in (*walked, image.digest):
        assert staging.digest(Reference(staging.host, image.repository, digest=digest)) is None
    assert staging.referrers_tags(image.repository) == []
    assert referrers.delete(real_registry, image) == [image.digest]


def test_what_is_left_of_an_image_that_others_deleted_is_swept(staging, pushed, push_new_image):
    kept = push_new_image(pushed.repository, "2")
    referrers.attach(staging, kept, notes(1))
    attached = referrers.attach(staging, pushed, [SIGNED_SBOM])
    walked = named(referrers.walk(staging, pushed))
    staging.delete(pushed)
    assert pushed.digest in referrers.lists(staging, pushed.repository)
    assert set(referrers.detach(staging, pushed)) == walked >= set(attached)
    assert [subject_of_tag(tag) for tag in staging.referrers_tags(pushed.repository)] == [kept.digest]
    assert len(referrers.listed(staging, kept)) == 1
    referrers.delete(staging, kept)


@pytest.mark.parametrize("target_has_api", [False, True], ids=["to-tag", "to-api"])
def test_a_copy_has_everything_and_its_signatures(real_registry, image, production, target_has_api):
    digests = referrers.attach(real_registry, image, [SIGNED_SBOM, *notes(2)])
    with ReferrersRegistry(production.host) as front:
        target = OciRegistry(front.host) if target_has_api else production
        copy_image(real_registry, target, image, image.repository)
        assert named(referrers.missing(real_registry, target, image, image.repository)) >= set(digests)
        copied = referrers.copy(real_registry, target, image, image.repository)
        copy = Reference(target.host, image.repository, digest=image.digest)
        assert set(copied) == named(referrers.walk(target, copy)) == named(referrers.walk(real_registry, image))
        assert referrers.missing(real_registry, target, image, image.repository) == []
        assert set(referrers.copy(real_registry, target, image, image.repository)) == set(copied)
        referrers.delete(target, copy)


def test_what_is_attached_to_the_images_of_an_index_is_found_and_copied(staging, production, pushed):
    manifest = staging.manifest(pushed)
    entry = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.body)}
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    index = Manifest(f"sha256:{sha256(body).hexdigest()}", OCI_INDEX, body)
    staging.put_manifest(pushed.repository, "index", index)
    of_index = pushed.with_digest(index.digest)
    wanted = {*referrers.attach(staging, of_index, notes(1)), *referrers.attach(staging, pushed, [SBOM])}
    assert named(referrers.walk(staging, of_index)) == wanted
    copy_image(staging, production, of_index, pushed.repository)
    assert set(referrers.copy(staging, production, of_index, pushed.repository)) == wanted
    for real_registry in (staging, production):
        place = Reference(real_registry.host, pushed.repository)
        referrers.delete(real_registry, place.with_digest(index.digest))
        assert len(referrers.listed(real_registry, place.with_digest(pushed.digest))) == 1, (
            "another index may have it, too"
        )
        referrers.delete(real_registry, place.with_digest(pushed.digest))


def test_twelve_that_attach_at_once_keep_twelve(real_registry, image):
    start = threading.Barrier(12)

    def attach(note: Artifact) -> list[str]:
        start.wait(30)
        return referrers.attach(OciRegistry(real_registry.host), image, [note])

    with ThreadPoolExecutor(12) as pool:
        digests = {digest for each in pool.map(attach, notes(12)) for digest in each}
    assert len(digests) == 12
    assert named(referrers.listed(real_registry, image)) == digests


def test_a_registry_that_is_asked_too_often_is_waited_for(api_front, pushed, monkeypatch):
    monkeypatch.setattr(oci, "_PAUSE_SECONDS", 0.1)
    real_registry = OciRegistry(api_front.host)
    image = Reference(api_front.host, pushed.repository, digest=pushed.digest)
    referrers.attach(real_registry, image, notes(1))
    # More often than a session repeats any request.
    api_front.faults.append(Fault("status", "GET", "/referrers/", 429, {"Retry-After": "0"}, times=12))
    assert len(referrers.listed(real_registry, image)) == 1
    assert api_front.faults[0].times == 0
    referrers.delete(real_registry, image)


@pytest.mark.parametrize("status", [401, 403, 501])
def test_an_error_is_never_an_empty_list(api_front, pushed, status):
    real_registry = OciRegistry(api_front.host)
    image = Reference(api_front.host, pushed.repository, digest=pushed.digest)
    api_front.faults.append(Fault("status", "GET", "/referrers/", status, {"Retry-After": "0"}))
    for ask in (referrers.listed, referrers.delete, lambda *where: list(referrers.walk(*where))):
        with pytest.raises(Unreachable, match=f"what is attached.*HTTP {status}"):
            ask(real_registry, image)
    api_front.faults.clear()
    assert real_registry.digest(image) == image.digest, "it is deleted only when it is known what goes with it"


def test_an_index_that_cannot_be_read_is_no_empty_list(staging, pushed):
    tag = referrers_tag(pushed.digest)
    with FaultyRegistry(staging.host) as front:
        front.faults.append(Fault("status", "GET", f"/manifests/{tag}", 403))
        real_registry = OciRegistry(front.host)
        with pytest.raises(Unreachable, match="HTTP 403"):
            referrers.attach(real_registry, pushed, notes(1))
    staging.tag(pushed, tag)
    with pytest.raises(Unreachable, match="no index of artifacts"):
        referrers.listed(staging, pushed)


def test_a_list_of_several_pages_is_read_to_its_end(staging, pushed):
    with ReferrersRegistry(staging.host, page=2) as front:
        real_registry = OciRegistry(front.host)
        image = Reference(front.host, pushed.repository, digest=pushed.digest)
        digests = referrers.attach(real_registry, image, notes(5))
        assert named(referrers.listed(real_registry, image)) == set(digests)
        referrers.delete(real_registry, image)


def test_an_artifact_that_the_registry_loses_is_not_attached(staging, pushed, monkeypatch):
    monkeypatch.setattr(referrers, "_SETTLE_SECONDS", 0.5)
    with ReferrersRegistry(staging.host) as front:
        front.passed_on = lambda *_: {}
        with pytest.raises(Unreachable, match="does not list what was attached"):
            referrers.attach(OciRegistry(front.host), pushed, notes(1))


def test_content_of_something_else_is_refused(real_registry, image):
    (digest,) = referrers.attach(real_registry, image, [SBOM])
    (attached,) = referrers.listed(real_registry, image)
    stolen = replace(attached, subject=f"sha256:{'0' * 64}")
    with pytest.raises(BadInput, match="not attached to"):
        referrers.content_of(real_registry, image.repository, stolen)
    assert digest == attached.digest


def test_a_list_that_names_what_is_not_attached_takes_nothing_along(staging, production, pushed, push_new_image):
    """Whoever may push can write such an index; a cleanup must not delete other images for it."""
    other = push_new_image(pushed.repository, "2")
    (digest,) = referrers.attach(staging, pushed, notes(1))
    manifest = staging.manifest(other)
    real = referrers.listed(staging, pushed)[0].entry
    forged = {"mediaType": manifest.media_type, "digest": other.digest, "size": len(manifest.body)}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [real, forged]}
    body = json.dumps(index).encode()
    index_manifest = Manifest(f"sha256:{sha256(body).hexdigest()}", OCI_INDEX, body)
    staging.put_manifest(pushed.repository, referrers_tag(pushed.digest), index_manifest)
    assert named(referrers.walk(staging, pushed)) == {digest}
    copy_image(staging, production, pushed, pushed.repository)
    assert referrers.copy(staging, production, pushed, pushed.repository) == [digest]
    assert production.digest(Reference(production.host, pushed.repository, digest=other.digest)) is None
    assert set(referrers.delete(staging, pushed)) == {digest, pushed.digest}
    assert staging.digest(other) == other.digest
    referrers.delete(production, Reference(production.host, pushed.repository, digest=pushed.digest))
